"""Runs on other machines, by Hydra's launchers for Slurm (submitit) and Ray."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from drq_sn import validation
from drq_sn.cli.config.overrides import initialized
from drq_sn.cli.launching.grid import PlannedRun
from drq_sn.cli.launching.local import Endings
from drq_sn.cli.running.exit_codes import exit_on_invalid_input
from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped

EXTRAS = {"hydra_ray_launcher": "ray", "hydra_submitit_launcher": "slurm"}
LOG = "DRQ_SN_LOG"  # environment variable that names a run's log


def require_installed(launcher: DictConfig) -> None:
    """See that the launcher's packages are there.

    Raises:
        InvalidInput: saying how they are installed.
    """
    package = str(launcher._target_).split(".")[1]
    extra = EXTRAS.get(package, package)
    try:
        __import__(f"hydra_plugins.{package}")
    except ImportError:
        raise validation.InvalidInput(
            f"launcher={extra}: its packages are missing; make sweep LAUNCHER={extra} and pip install drq_sn[{extra}] get them"
        ) from None


def launch(launcher: DictConfig, logs: Mapping[PlannedRun, Path], sweep_dir: Path, endings: Endings) -> None:
    """Train runs wherever the launcher puts them, and wait until all have ended.

    Args:
        launcher: configuration of a Hydra launcher.
        logs: the file that each run's output is added to; it, the runs' folders and `sweep_dir` are seen by every machine.
        sweep_dir: folder of the launcher's own files.
        endings: filled with exit codes; None for a run whose machine or worker was lost for good.

    Raises:
        InvalidInput: for what the launcher cannot do.
        Stopped: when a signal has come. Jobs in Slurm's queue go on; those of a Ray of this process do not.
    """
    words = [_words(launcher, run, log) for run, log in logs.items()]
    with initialized(), _raising_signals(), _waiting_for_all():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config(
            "train", ["hydra/hydra_logging=none"], RunMode.MULTIRUN, with_log_configuration=False
        )
        with open_dict(config):
            config.hydra.launcher = launcher
            config.hydra.sweep.dir, config.hydra.sweep.subdir = str(sweep_dir.absolute()), "."
        chosen = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config)),
            task_function=train,
            config=config,
        )
        results = chosen.launch(words, initial_job_idx=0)
    for planned, result in zip(logs, results, strict=True):
        endings[planned] = result.return_value if result and result.status == JobStatus.COMPLETED else None


def fill_in(launcher: DictConfig) -> None:
    """Settle how much of a GPU a run on Ray takes, where the user left it open.

    Raises:
        InvalidInput: on a cluster, which may have GPUs that this machine has not.
    """
    if OmegaConf.select(launcher, "ray.remote") is None or launcher.ray.remote.num_gpus is not None:
        return
    if launcher.ray.init.address is not None:
        raise validation.InvalidInput(
            "launcher.ray.remote.num_gpus must be the share of a GPU that a run takes, such as 1, 0.25 or 0, "
            "where launcher.ray.init.address is set; got null"
        )
    launcher.ray.remote.num_gpus = 1 if torch.cuda.is_available() else 0


def _words(launcher: DictConfig, run: PlannedRun, log: Path) -> list[str]:
    """A run's command line on another machine, whose current folder may be another."""
    own = {word.split("=", 1)[0] for word in run.words}
    share = {}
    if (num_cpus := OmegaConf.select(launcher, "ray.remote.num_cpus")) is not None:  # Ray keeps nobody to his cores
        share = dict.fromkeys(("num_threads", "num_eval_processes"), max(1, int(num_cpus)))
    paths = {"run_dir": run.run_dir, f"+hydra.job.env_set.{LOG}": log}
    return [
        *run.words,
        *(f"{name}={value}" for name, value in share.items() if name not in own),
        *(f"{name}={_quoted(path.absolute())}" for name, path in paths.items()),
    ]


def _quoted(path: Path) -> str:
    """`path` as Hydra reads it back.

    Raises:
        InvalidInput: for characters that Hydra's grammar makes something else of.
    """
    if any(special in str(path) for special in ("'", "\\", "${")):
        raise validation.InvalidInput(f"{path}: a path on a cluster must not have quotes, backslashes or ${{")
    return f"'{path}'"


@contextlib.contextmanager
def _waiting_for_all() -> Iterator[None]:
    """Both launchers ask for one job's result after the other and end with the first lost one: let None stand for it."""

    def forgiving(function: Callable[..., Any], lost: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return function(*arguments, **options)
            except Exception as error:
                print(f"a job was lost: {str(error).strip().splitlines()[:1]}", file=sys.stderr)
                return lost

        return call

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            core = importlib.import_module("hydra_plugins.hydra_ray_launcher._core")
            stack.enter_context(mock.patch.object(core.ray, "get", forgiving(core.ray.get, None)))
        with contextlib.suppress(ImportError):
            job = importlib.import_module("submitit.core.core").Job
            stack.enter_context(mock.patch.object(job, "results", forgiving(job.results, [None])))
        yield


@contextlib.contextmanager
def _raising_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the waiting as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(cfg: DictConfig) -> int:
    """One run on the machine that the launcher chose; returns its exit code, so that no other run is touched by it."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        with exit_on_invalid_input(stopping=False):
            run(cfg)
    except SystemExit as end:
        return int(end.code or 0)
    except Stopped as stop:
        signal.raise_signal(stop.signal_number)  # for the launcher, which may queue the run again
        return stop.exit_code
    return 0
