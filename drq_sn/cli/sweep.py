"""`python -m drq_sn.cli.sweep experiment=table1 seed=1,2 launcher=local`: many runs, here or on a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import hydra
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.cli.config.build import config_dir, instantiate
from drq_sn.cli.config.experiments import Experiment, load_experiment
from drq_sn.cli.config.overrides import SWEEP_FLAGS, check_overrides, initialized
from drq_sn.cli.launching import cluster
from drq_sn.cli.launching.grid import PlannedRun, plan, split_words
from drq_sn.cli.launching.live_table import Row, SweepTable
from drq_sn.cli.launching.local import Endings, LocalLauncher, ending
from drq_sn.cli.running.exit_codes import ExitCode, exit_on_invalid_input
from drq_sn.cli.running.run_dir import make_folder
from drq_sn.cli.running.signals import Stopped
from drq_sn.envs import require_task
from drq_sn.runs.files import write_atomically
from drq_sn.runs.progress import Progress, is_over, number, read_progress
from drq_sn.runs.status import Status

CONFIG_NAME = "sweep"
OWN = ("experiment", "launcher", "sweep_dir", "dry_run")
NOT_HERE = {
    "fresh": "runs that are tried again would start over",
    "cores": "the launcher gives every run its own",
    "device=cuda:": "the launcher gives every run its GPU; CUDA_VISIBLE_DEVICES says which there are",
}
SUMMARY = "summary.txt"
FAILED = 1


def sweep(words: Sequence[str]) -> int:
    """Train everything that `words` ask for and that is not over yet.

    Args:
        words: options of sweep.yaml and train.yaml.

    Returns:
        Exit code: 0 if all runs have finished, 3 if training diverged in some, 1 if some did not end.

    Raises:
        InvalidInput: before anything is started, for what can be seen without starting it.
        Stopped: after a signal, when every run on this machine has written a checkpoint.
    """
    own, of_runs = split_words(words, OWN)
    cfg, experiment = _settings(own)
    if experiment and experiment.profile:
        return _profile(experiment, of_runs, cfg)
    _require_words_for_runs(of_runs)
    runs = plan(of_runs, experiment)
    for task in dict.fromkeys(word.split("=", 1)[1] for run in runs for word in run.words if word.startswith("task=")):
        require_task(task)
    todo = [run for run in runs if not is_over(run.run_dir)]
    print(f"{number(len(runs), 'run')}, {len(runs) - len(todo)} over already")
    if cfg.dry_run:
        print("\n".join(" ".join(run.words) for run in todo))
        return 0
    if not todo:
        return _report(runs, {}, {}, None)
    return _train(cfg, runs, todo)


def _settings(own: Sequence[str]) -> tuple[DictConfig, Experiment | None]:
    """The sweep's own options, and the experiment that they name."""
    names = [word.lstrip("+").split("=", 1)[0] for word in own]
    for word, name in zip(own, names, strict=True):
        if names.count(name) > 1:
            raise validation.InvalidInput(f"{word}: {name} is given more than once")
        if name.startswith("experiment."):
            raise validation.InvalidInput(
                f"{word}: select a part of an experiment by options of its runs, such as seed=1,2"
            )
        if name in OWN and "," in word and "[" not in word:
            raise validation.InvalidInput(f"{word}: only options of runs take several values")
    with initialized():
        cfg = compose(CONFIG_NAME, [word for word in own if not word.startswith("experiment")])
    validation.boolean("dry_run", cfg.dry_run)
    return cfg, _experiment(own)


def _experiment(own: Sequence[str]) -> Experiment | None:
    names = [word.split("=", 1)[1] for word in own if word.startswith("experiment=")]
    return load_experiment(names[0]) if names else None


def _profile(experiment: Experiment, words: Sequence[str], cfg: DictConfig) -> int:
    """The experiment that is no training."""
    chosen = [*experiment.profile, *words]
    check_overrides(chosen, "profile")
    if not _is_local(cfg):
        raise validation.InvalidInput(f"experiment={experiment.name} measures this machine; use launcher=local")
    command = ["-m", "drq_sn.cli.profile", *chosen]
    if cfg.dry_run:
        print(" ".join(["python", *command]))
        return 0
    return subprocess.call([sys.executable, *command])


def _require_words_for_runs(words: Sequence[str]) -> None:
    for word in words:
        for start, reason in NOT_HERE.items():
            if word.startswith(start if "=" in start else f"{start}="):
                raise validation.InvalidInput(f"{word}: not available in a sweep, {reason}")


def _is_local(cfg: DictConfig) -> bool:
    return bool(cfg.launcher._target_ == f"{LocalLauncher.__module__}.{LocalLauncher.__name__}")


def _train(cfg: DictConfig, runs: Sequence[PlannedRun], todo: Sequence[PlannedRun]) -> int:
    """Train `todo`, showing all `runs`; see `sweep`."""
    launcher = None
    if _is_local(cfg):
        launcher = instantiate(cfg.launcher, use_gpus=not any("device=cpu" in run.words for run in todo))
    else:
        cluster.require_installed(cfg.launcher)
        cluster.fill_in(cfg.launcher)
    folder = make_folder(Path(str(cfg.sweep_dir)), "sweep_dir")
    logs = {run: folder / f"{i}_{run.name.replace('/', '_')}.log" for i, run in enumerate(todo, start=1)}
    places = f", up to {launcher.num_slots} at once" if launcher else ""
    print(f"training {number(len(todo), 'run')}{places}; a log of each in {folder}", flush=True)
    endings: Endings = {}
    try:
        with SweepTable(
            [Row(run.name, run.num_train_frames, partial(read_progress, run.run_dir)) for run in runs]
        ) as table:
            if launcher:
                launcher.launch(logs, table.say, endings)
            else:
                cluster.launch(cfg.launcher, logs, folder, endings)
    except (Stopped, KeyboardInterrupt):
        _report(runs, endings, logs, folder)
        raise
    return _report(runs, endings, logs, folder)


def _report(runs: Sequence[PlannedRun], endings: Endings, logs: Mapping[PlannedRun, Path], folder: Path | None) -> int:
    """Say how all runs ended, also in `folder`; see `sweep` for what is returned."""
    states = {run: read_progress(run.run_dir) for run in runs}
    wrong = {run: state for run, state in states.items() if state.status != Status.FINISHED}
    lines = [f"{len(runs) - len(wrong)} of {number(len(runs), 'run')} finished"]
    lines += [_why(run, state, endings, logs) for run, state in wrong.items()]
    text = "\n".join(lines)
    print(text)
    if folder is not None:
        write_atomically(folder / SUMMARY, f"{text}\n".encode())
    if not wrong:
        return 0
    if all(state.status == Status.DIVERGED for state in wrong.values()):
        return ExitCode.DIVERGED
    print(f"logs in {folder}; the same command goes on with what is not over")
    return FAILED


def _why(run: PlannedRun, state: Progress, endings: Endings, logs: Mapping[PlannedRun, Path]) -> str:
    """How a run ended that did not finish, and the last that it said."""
    how = state.status if state.status == Status.DIVERGED else ending(endings[run]) if run in endings else "not begun"
    said = logs[run].read_text(errors="replace").strip().splitlines() if run in logs and logs[run].is_file() else []
    last = f": {said[-1]}" if said and state.status != Status.DIVERGED else ""
    return f"{run.name}: {how}, at frame {state.frame}{last}"


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
        own, _ = split_words(words, OWN)
        experiment = _experiment(own)
        # the others are a profile's, where the experiment is one
        check_overrides(["-m", *(own if experiment and experiment.profile else words)], CONFIG_NAME)
        sys.exit(sweep(words))


if __name__ == "__main__":
    main()
