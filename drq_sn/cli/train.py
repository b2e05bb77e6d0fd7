"""`drq-sn train task=cheetah_run agent=drqv2 head=modern4 normalizer=spectral seed=1`."""

from __future__ import annotations

from drq_sn.cli.running.signals import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the seconds that importing torch takes

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from drq_sn.cli.config.build import config_dir, resolve
from drq_sn.cli.config.command_line import check_command_line
from drq_sn.cli.config.overrides import SWEEP_FLAGS, check_overrides, parse_override, quote_values, take_directories
from drq_sn.cli.config.search_path import directories_in_use
from drq_sn.cli.launching.grid import compose_run, plan
from drq_sn.cli.running.callback import CallbackFailed, EvaluationFeed
from drq_sn.cli.running.exit_codes import RERUN, ExitCode, exit_on_expected_errors, run_command
from drq_sn.cli.running.run import run
from drq_sn.training.loop import TrainingDiverged
from drq_sn.types import Evaluation

CONFIG_NAME = "train"


def train(*overrides: str, callback: Callable[[Evaluation], object] | None = None) -> Path:
    """Train one run in this process, or resume it, as `drq-sn train` does.

    Args:
        overrides: options as on the command line, such as `"task=cup_catch"`; also `"hydra.searchpath=[DIR]"`.
        callback: called with every evaluation, in order. Those of an earlier part of the run, or of a finished run,
            come first. If it raises an exception, the run writes a checkpoint and can be resumed, and `train` raises
            the exception.

    Returns:
        The run directory. A run that has finished before is not trained again.

    Raises:
        InvalidInput: for an invalid option; nothing has been written then.
        TrainingDiverged: if a loss or weight is not finite.
        Stopped: after a signal and a checkpoint.
        RuntimeError: if this is not the main thread, which alone can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("drq_sn.train must be called in the main thread; use a process for each run")
    options, directories = take_directories(overrides)
    with directories_in_use(directories), _own_hydra():
        options = quote_values(options, several=False)
        check_overrides(options, CONFIG_NAME)
        cfg = compose_run(options)
        resolve(cfg)
        run_dir, feed = Path(str(cfg.run_dir or "")), EvaluationFeed(callback)
        diverged = None
        try:
            try:
                run(cfg, feed)
            except TrainingDiverged as error:
                diverged = error
            feed.announce()
            feed.deliver(run_dir)
        except CallbackFailed as error:
            raise error.__cause__ or error from None
    if diverged is not None:
        raise diverged
    return run_dir


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Compose apart from a Hydra application that the caller may be."""
    hydra_before, config_before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = hydra_before, config_before


def main() -> None:
    """Check the command line as a whole, then let Hydra run it; `--multirun` trains one run after the other."""
    check_command_line(CONFIG_NAME)
    if set(sys.argv[1:2]) & SWEEP_FLAGS:
        _plan_multirun()
    diverged: list[str] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
    def train_one(cfg: DictConfig) -> None:
        with exit_on_expected_errors("rerun the command without fresh=true" if cfg.fresh else RERUN):
            try:
                run(cfg)
            except TrainingDiverged as error:
                if HydraConfig.get().mode != RunMode.MULTIRUN:
                    raise
                print(f"{cfg.run_dir}: {error}; continuing with the next run", file=sys.stderr)
                diverged.append(str(cfg.run_dir))

    train_one()
    if diverged:
        sys.exit(ExitCode.DIVERGED)


def _plan_multirun() -> None:
    """Refuse runs that cannot all be trained before the first one starts."""
    overrides = [argument for argument in sys.argv[1:] if argument not in SWEEP_FLAGS]
    if any(override.startswith("-") for override in overrides):  # `--help`, `--cfg job`
        return
    last = {parse_override(override).key_or_group: override for override in overrides}  # what `plan` counts
    plan(list(last.values()))
    sys.argv[1:] = ["--multirun", *last.values()]


if __name__ == "__main__":
    run_command(main)
