"""`drq-sn train task=cheetah_run agent=drqv2 head=modern4 normalizer=spectral seed=1`."""

from __future__ import annotations

from drq_sn.cli.running.signals import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the seconds that importing torch takes

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.overrides import SWEEP_FLAGS, check_command_line, parse_override
from drq_sn.cli.launching.grid import plan
from drq_sn.cli.running.exit_codes import ExitCode, exit_on_invalid_input, run_command
from drq_sn.cli.running.run import run
from drq_sn.training.loop import TrainingDiverged

CONFIG_NAME = "train"


def main() -> None:
    """Check the command line as a whole, then let Hydra run it; `--multirun` trains one run after the other."""
    # Hydra takes flags before or after all overrides; `make train ARGS="-m ..."` puts them between
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in SWEEP_FLAGS)
    check_command_line(CONFIG_NAME)
    if set(sys.argv[1:2]) & SWEEP_FLAGS:
        with exit_on_invalid_input():
            _plan_multirun()
    diverged: list[str] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
    def train(cfg: DictConfig) -> None:
        with exit_on_invalid_input():
            try:
                run(cfg)
            except TrainingDiverged as error:
                if HydraConfig.get().mode != RunMode.MULTIRUN:
                    raise
                print(f"{cfg.run_dir}: {error}; continuing with the next run", file=sys.stderr)
                diverged.append(str(cfg.run_dir))

    train()
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
