"""Runs on other machines, by Hydra's launchers for Slurm (submitit) and Ray."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from drq_sn import checks
from drq_sn.cli.errors import exit_on_invalid_input
from drq_sn.cli.overrides import initialized
from drq_sn.cli.plan import PlannedRun
from drq_sn.cli.run import run
from drq_sn.cli.stopping import Stopped

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
        raise checks.InvalidInput(
            f"launcher={extra}: its packages are missing; make sweep LAUNCHER={extra} and pip install drq_sn[{extra}] get them"
        ) from None


def launch(launcher: DictConfig, runs: Sequence[PlannedRun], logs: Sequence[Path], sweep_dir: Path) -> None:
    """Train `runs` wherever the launcher puts them, and wait until all have ended.

    Args:
        launcher: configuration of a Hydra launcher.
        runs: what is trained; their folders and `sweep_dir` are seen by every machine.
        logs: the file that each run's output is added to.
        sweep_dir: folder of the launcher's own files.
    """
    with initialized():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("train", ["hydra/hydra_logging=none"], RunMode.MULTIRUN, with_log_configuration=False)
        with open_dict(config):
            config.hydra.launcher = launcher
            config.hydra.sweep.dir, config.hydra.sweep.subdir = str(sweep_dir.absolute()), "."
            _fill_in(config.hydra.launcher)
        chosen = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config)),
            task_function=train,
            config=config,
        )
        words = [
            # the other machine's current folder may be another
            [*run.words, f"run_dir='{run.run_dir.absolute()}'", f"+hydra.job.env_set.{LOG}='{log.absolute()}'"]
            for run, log in zip(runs, logs, strict=True)
        ]
        chosen.launch(words, initial_job_idx=0)


def _fill_in(launcher: DictConfig) -> None:
    """A GPU for each run on Ray, where the user left it open and there are any."""
    if OmegaConf.select(launcher, "ray.remote") is not None and launcher.ray.remote.num_gpus is None:
        launcher.ray.remote.num_gpus = 1 if torch.cuda.is_available() else 0


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
