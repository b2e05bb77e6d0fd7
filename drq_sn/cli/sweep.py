"""`drq-sn sweep experiment=table1 seed=1,2 launcher=local`: trains many runs, on this machine or on a cluster."""

from __future__ import annotations

from drq_sn.cli.running.signals import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # before the seconds that importing torch takes

import contextlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.cli.config.build import config_dir, instantiate, resolve
from drq_sn.cli.config.command_line import check_command_line
from drq_sn.cli.config.experiments import PUBLISHED, load_experiment
from drq_sn.cli.config.overrides import SWEEP_FLAGS, alternatives, compose_config, parse_override, search_path_overrides
from drq_sn.cli.config.saved import saved_length
from drq_sn.cli.launching.grid import PlannedRun, plan, split_overrides
from drq_sn.cli.launching.job import ExitCodes, Job, Launcher, describe_exit
from drq_sn.cli.launching.live_table import Row, SweepTable
from drq_sn.cli.running.exit_codes import ExitCode, run_command
from drq_sn.cli.running.run_dir import make_folder
from drq_sn.cli.running.signals import Stopped
from drq_sn.report.types import Experiment
from drq_sn.runs.files import write_atomically
from drq_sn.runs.progress import Progress, format_count, read_progress
from drq_sn.runs.status import Status

CONFIG_NAME = "sweep"
OPTIONS = ("experiment", "launcher", "sweep_dir", "dry_run")
SINGLE_RUN_ONLY = {
    "fresh=": "retries would start over",
    "cores=": "the launcher assigns the cores",
    "device=cuda:": "the launcher assigns the GPUs; CUDA_VISIBLE_DEVICES limits them",
}
SUMMARY = "summary.txt"


def sweep(overrides: Sequence[str]) -> int:
    """Train every run that `overrides`, of sweep.yaml and train.yaml, select and that has not finished.

    Returns:
        Exit code: 0 if all runs have finished, 3 if the others diverged, else 1.

    Raises:
        InvalidInput: before any run is started.
        Stopped: after a signal, when the launcher has stopped its runs.
    """
    sweep_overrides, run_overrides = split_overrides(overrides, OPTIONS)
    presets = [override.split("=", 1)[1] for override in run_overrides if override.startswith("preset=")]
    cfg, experiment = _settings(sweep_overrides, presets[-1] if presets else PUBLISHED)
    for line in (line for several in run_overrides for line in alternatives(parse_override(several))):
        override = parse_override(line)
        for start, reason in SINGLE_RUN_ONLY.items():
            if f"{override.key_or_group}={override.value()}".startswith(start):
                raise validation.InvalidInput(f"{line} is not available in a sweep: {reason}")
    runs = plan(run_overrides, experiment)
    todo = [run for run in runs if not run.is_over]
    print(f"{format_count(len(runs), 'run')}, {len(runs) - len(todo)} already ended")
    if cfg.dry_run:
        print("\n".join(shlex.join((*search_path_overrides(), *run.overrides)) for run in todo))
        return 0
    if not todo:
        return _summarize(runs, {}, {}, None)
    return _train(cfg, runs, todo)


def _settings(overrides: Sequence[str], preset: str) -> tuple[DictConfig, Experiment | None]:
    """The sweep's own options, and the experiment that they name, at the scale of `preset`."""
    names = [override.lstrip("+").split("=", 1)[0] for override in overrides]
    for override, name in zip(overrides, names, strict=True):
        if names.count(name) > 1:
            raise validation.InvalidInput(f"{override}: {name} is given more than once")
        if name.startswith("experiment."):
            raise validation.InvalidInput(
                f"{override}: select a part of an experiment by options of its runs, such as seed=1,2"
            )
        if parse_override(override).is_sweep_override():
            raise validation.InvalidInput(f"{override}: only options of runs take several values")
    cfg = compose_config(CONFIG_NAME, [override for override in overrides if not override.startswith("experiment")])
    cfg = OmegaConf.masked_copy(cfg, ["launcher", "sweep_dir", "dry_run"])
    resolve(cfg)
    validation.boolean("dry_run", cfg.dry_run)
    validation.path("sweep_dir", cfg.sweep_dir)
    experiments = [override.split("=", 1)[1] for override in overrides if override.startswith("experiment=")]
    return cfg, load_experiment(experiments[0], preset) if experiments else None


def _train(cfg: DictConfig, runs: Sequence[PlannedRun], todo: Sequence[PlannedRun]) -> int:
    """Train `todo` while showing all `runs`; see `sweep`."""
    launcher: Launcher = instantiate(cfg.launcher)
    directory = make_folder(Path(str(cfg.sweep_dir)), "sweep_dir")
    jobs = {
        run: Job(
            run.name,
            (*search_path_overrides(), *run.overrides),
            directory / f"{i}_{run.name.replace('/', '_')}.log",
            run.sets_cpus,
        )
        for i, run in enumerate(todo, start=1)
    }
    print(f"training {format_count(len(todo), 'run')}; logs in {directory}", flush=True)
    exit_codes: ExitCodes = {}
    rows = [Row(run.name, run.num_train_frames, partial(_progress, run)) for run in runs]
    try:
        with SweepTable(rows) as table:
            launcher.launch(list(jobs.values()), table.say, exit_codes)
    except (Stopped, KeyboardInterrupt):
        _summarize(runs, jobs, exit_codes, directory)
        raise
    return _summarize(runs, jobs, exit_codes, directory)


def _summarize(
    runs: Sequence[PlannedRun], jobs: Mapping[PlannedRun, Job], exit_codes: ExitCodes, directory: Path | None
) -> int:
    """Print how all runs ended, also to `directory`, and return the exit code; see `sweep`."""
    progress = {run: _progress(run) for run in runs}
    unfinished = {run: state for run, state in progress.items() if state.status != Status.FINISHED}
    lines = [f"{len(runs) - len(unfinished)} of {format_count(len(runs), 'run')} finished"]
    lines += [_describe(run, state, jobs.get(run), exit_codes) for run, state in unfinished.items()]
    text = "\n".join(lines)
    print(text)
    if directory is not None:
        write_atomically(directory / SUMMARY, f"{text}\n".encode())
    if not unfinished:
        return 0
    if all(state.status == Status.DIVERGED for state in unfinished.values()):
        return ExitCode.DIVERGED
    print(f"logs in {directory}; rerun the same command to resume")
    return ExitCode.FAILED


def _progress(run: PlannedRun) -> Progress:
    """Progress of `run`; a shorter run that has finished in its directory is waiting to be trained further."""
    state = read_progress(run.run_dir)
    with contextlib.suppress(validation.InvalidInput):  # a damaged file: what `run.json` says counts
        if state.status is Status.FINISHED and saved_length(run.run_dir) < run.num_train_frames:
            return state._replace(status=Status.WAITING)
    return state


def _describe(run: PlannedRun, state: Progress, job: Job | None, exit_codes: ExitCodes) -> str:
    """How an unfinished run ended, and the last line of its log."""
    if state.status == Status.DIVERGED:
        return f"{run.name}: {state.status} at frame {state.frame}"
    status = "not started" if state.status == Status.WAITING else state.status
    ending = describe_exit(exit_codes[job]) if job in exit_codes else status
    output = job.log.read_text(errors="replace").strip().splitlines() if job and job.log.is_file() else []
    return f"{run.name}: {ending} at frame {state.frame}" + (f": {output[-1]}" if output else "")


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
def _show(cfg: DictConfig) -> None:
    print(OmegaConf.to_yaml(cfg))


def main() -> None:
    """Check the command line, then sweep; Hydra answers other flags than `--help`."""
    sys.argv.insert(1, "-m")  # options may have several values
    check_command_line(CONFIG_NAME)
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument not in SWEEP_FLAGS]
    if any(argument.startswith("-") for argument in sys.argv[1:]):
        _show()
        return
    sys.exit(sweep(sys.argv[1:]))


if __name__ == "__main__":
    run_command(main)
