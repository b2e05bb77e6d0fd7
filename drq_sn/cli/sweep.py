"""`python -m drq_sn.cli.sweep experiment=table1 seed=1,2 launcher=local`: many runs, here or on a cluster."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import hydra
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from drq_sn import checks
from drq_sn.checkpoint import write_atomically
from drq_sn.cli import remote
from drq_sn.cli.build import config_dir, instantiate
from drq_sn.cli.errors import CRASHED, exit_on_invalid_input
from drq_sn.cli.experiments import load_experiment
from drq_sn.cli.overrides import SWEEP_FLAGS, check_overrides, initialized
from drq_sn.cli.packing import LocalLauncher
from drq_sn.cli.plan import PlannedRun, plan, split_words
from drq_sn.cli.run_folder import make_folder
from drq_sn.envs import require_task
from drq_sn.progress import CRASHED as CRASHED_RUN
from drq_sn.progress import FINISHED, Progress, is_over, read_progress
from drq_sn.sweep_table import Row, SweepTable

CONFIG_NAME = "sweep"
OWN = ("experiment", "launcher", "sweep_dir", "dry_run")
NOT_HERE = {"fresh": "runs that are tried again would start over", "cores": "the launcher gives every run its own"}
SUMMARY, LAUNCHER_LOG = "summary.txt", "launcher.log"
FAILED = 1


def sweep(words: Sequence[str]) -> int:
    """Train everything that `words` ask for and that is not finished yet.

    Args:
        words: options of sweep.yaml and train.yaml.

    Returns:
        Exit code: 0 if all runs have finished, 3 if learning crashed in some, 1 if some did not end.

    Raises:
        InvalidInput: before anything is started.
        Stopped: after a signal, when every run has written a checkpoint.
    """
    own, of_runs = split_words(words, OWN)
    for word in of_runs:
        if (name := word.split("=", 1)[0]) in NOT_HERE:
            raise checks.InvalidInput(f"{word}: not accepted in a sweep, {NOT_HERE[name]}")
    with initialized():
        cfg = compose(CONFIG_NAME, [word for word in own if not word.startswith("experiment=")])
    chosen = next((word.split("=", 1)[1] for word in own if word.startswith("experiment=")), None)
    experiment = load_experiment(chosen) if chosen else None
    if experiment and experiment.profile:
        return subprocess.call([sys.executable, "-m", "drq_sn.cli.profile", *experiment.profile, *of_runs])
    runs = plan(of_runs, experiment)
    for task in dict.fromkeys(word.split("=", 1)[1] for run in runs for word in run.words if word.startswith("task=")):
        require_task(task)
    todo = [run for run in runs if not is_over(run.run_dir)]
    print(f"{len(runs)} runs, {len(runs) - len(todo)} of them over already")
    if checks.boolean("dry_run", cfg.dry_run):
        print("\n".join(" ".join(run.words) for run in todo))
        return 0
    return _report(runs, _launch(cfg, runs, todo)) if todo else 0


def _launch(cfg: DictConfig, runs: Sequence[PlannedRun], todo: Sequence[PlannedRun]) -> Path:
    """Train `todo`, showing all `runs`, and return the folder of the logs."""
    is_local = cfg.launcher._target_ == f"{LocalLauncher.__module__}.{LocalLauncher.__name__}"
    launcher = instantiate(cfg.launcher) if is_local else None
    if not is_local:
        remote.require_installed(cfg.launcher)
    folder = make_folder(Path(str(cfg.sweep_dir)), "sweep_dir")
    logs = {run: folder / f"{run.name.replace('/', '_')}.log" for run in runs}
    places = f", {launcher.num_slots} at once" if launcher else ""
    print(f"training {len(todo)}{places}; a log of each in {folder}", flush=True)
    with SweepTable([Row(run.name, run.num_train_frames, partial(read_progress, run.run_dir)) for run in runs]) as table:
        if launcher:
            launcher.launch(todo, logs.__getitem__, table.say)
        else:
            try:
                remote.launch(cfg.launcher, todo, [logs[run] for run in todo], folder)
            except Exception:  # of a job that was lost; the others have run
                (folder / LAUNCHER_LOG).write_text(traceback.format_exc())
                table.say(f"the launcher met an error: {folder / LAUNCHER_LOG}")
    return folder


def _report(runs: Sequence[PlannedRun], folder: Path) -> int:
    """Say how all runs ended; see `sweep` for what is returned."""
    states = {run: read_progress(run.run_dir) for run in runs}
    wrong = {run: state for run, state in states.items() if state.status != FINISHED}
    lines = [f"{len(runs) - len(wrong)} of {len(runs)} runs have finished", *(_why(run, state) for run, state in wrong.items())]
    text = "\n".join(lines)
    write_atomically(folder / SUMMARY, f"{text}\n".encode())
    print(text)
    if not wrong:
        return 0
    if all(state.status == CRASHED_RUN for state in wrong.values()):
        return CRASHED
    print(f"logs in {folder}; the same command goes on with what is not over")
    return FAILED


def _why(run: PlannedRun, state: Progress) -> str:
    return f"{run.name}: {state.status} at frame {state.frame}" + (f": {state.error}" if state.error else "")


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
def _show(cfg: DictConfig) -> None:
    print(OmegaConf.to_yaml(cfg))


def main() -> None:
    """Check the command line, then sweep; Hydra answers `--help` and the like."""
    words = [word for word in sys.argv[1:] if word not in SWEEP_FLAGS]
    if any(word.startswith("-") for word in words):
        _show()
        return
    with exit_on_invalid_input():
        check_overrides(["-m", *words], CONFIG_NAME)
        sys.exit(sweep(words))


if __name__ == "__main__":
    main()
