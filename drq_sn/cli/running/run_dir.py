"""Run directories: locking, comparison of settings, `run.json`."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.cli.config.older_runs import FORMER_MEANING
from drq_sn.cli.running.callback import CallbackFailed
from drq_sn.cli.running.lock import RunDirectoryLost, RunLock, is_content
from drq_sn.cli.running.signals import Stopped
from drq_sn.runs.checkpoints import FOLDER
from drq_sn.runs.files import write_json
from drq_sn.runs.reader import CONFIG, RECORD, read_record
from drq_sn.runs.status import Status
from drq_sn.training.loop import TrainingDiverged
from drq_sn.types import SimulationDiverged

# options that may change when a run is resumed
MAY_DIFFER = {
    "run_dir",
    "run_suffix",
    "fresh",
    "device",
    "num_threads",
    "num_train_frames",
    "video_every_frames",
    "keep_checkpoint",
    "cores",
    "runtime",
    "replay.storage",
    "num_eval_processes",
    "checkpoint_every_seconds",
    "checkpoint_every_frames",
    "env_limit_seconds",
    "max_diverged_episodes",
    "diagnose_states",
    "logger",
}
HALF_WRITTEN = re.compile(r"\.(run\.json|config\.yaml|(weights|best)\.pt|(eval|train|diagnostics)\.csv)\.\d+")
NUM_NAMED = 3
MADE_BY = ("versions", "gl", "device", "git_commit", "first_frame_sha256")  # may change when a run is resumed


def make_folder(path: Path, option: str = "run_dir") -> Path:
    """Create `path`, the value of `option`, if it is not there.

    Raises:
        InvalidInput: if it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise validation.InvalidInput(
            f"{option} must be a writable directory, got {path}: cannot be created ({error.strerror})"
        ) from None
    if not os.access(path, os.W_OK):
        raise validation.InvalidInput(f"{option} must be a writable directory, got {path}")
    return path


@contextlib.contextmanager
def claimed(path: Path, fresh: bool) -> Iterator[RunLock]:
    """Lock a run directory, created if missing, while the `with` block lasts; `fresh` moves an earlier run to a backup.

    Raises:
        InvalidInput: if it is locked, not writable, or holds files but no run.
    """
    if path == Path():
        raise validation.InvalidInput("run_dir is empty or the current directory; give the run a directory of its own")
    try:
        names = {file.name for file in path.iterdir() if is_content(file)} if path.is_dir() else set()
        names = {name for name in names if not HALF_WRITTEN.fullmatch(name)}
        is_foreign = names and not (_has_run(path) if fresh else names & {CONFIG, RECORD, FOLDER})
    except OSError as error:
        raise validation.InvalidInput(f"run_dir must be a readable directory, got {path} ({error.strerror})") from None
    if is_foreign:
        raise validation.InvalidInput(
            f"run_dir={path} holds files but no run; use another run_dir, or move them yourself"
        )
    lock = RunLock(make_folder(path))
    with contextlib.closing(lock):
        for file in path.iterdir():
            if HALF_WRITTEN.fullmatch(file.name):  # by a killed process; see `write_atomically`
                file.unlink()
        if fresh:
            lock.move_to_backup()
        yield lock


def _has_run(path: Path) -> bool:
    """Whether this package trained in a directory; other software has files of the same names."""
    config = path / CONFIG
    return "status" in read_record(path) or (config.is_file() and b"drq_sn." in config.read_bytes())


def require_same(
    path: Path, saved: DictConfig, cfg: DictConfig, remedy: str = "another run_dir, or fresh=true"
) -> None:
    """Refuse to resume a run with other settings than `saved`, its configuration.

    `remedy` is what the user can do besides using the same settings.

    Raises:
        InvalidInput: with the options that differ.
    """
    before = FORMER_MEANING | flatten(OmegaConf.to_container(saved))
    now = FORMER_MEANING | flatten(OmegaConf.to_container(cfg, resolve=True))
    changed = [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and not {name, name.split(".")[0]} & MAY_DIFFER
    ]
    if changed:
        more = f" and {len(changed) - NUM_NAMED} more" if len(changed) > NUM_NAMED else ""
        raise validation.InvalidInput(
            f"run_dir={path} holds another run: {'; '.join(changed[:NUM_NAMED])}{more}; use the same settings, {remedy}"
        )


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name of every leaf of a plain tree -> its value; lists are leaves."""
    if not isinstance(node, dict):
        return {prefix.rstrip("."): node}
    return {name: value for key, child in node.items() for name, value in flatten(child, f"{prefix}{key}.").items()}


@contextlib.contextmanager
def recorded(path: Path, description: dict[str, Any], frame: int | None) -> Iterator[dict[str, Any]]:
    """Record the status in `run.json`: running, then finished, interrupted, diverged, or failed with the error.

    Args:
        path: run directory.
        description: the other entries of the record.
        frame: where an earlier run is resumed; None for a new run. Entries in `MADE_BY` that changed keep their
            earlier value under `resumed`; `init_from` is that of the new run.

    Yields:
        A dictionary for results; the final record contains them.
    """
    earlier = read_record(path)
    description = {**description, "started": _now()}
    if frame is not None:
        description["started"] = earlier.get("started", description["started"])
        before = {name: earlier[name] for name in MADE_BY if earlier.get(name, description[name]) != description[name]}
        resumed = {"frame": frame, "time": _now(), **({"before": before} if before else {})}
        so_far = earlier.get("resumed")
        description["resumed"] = [*(so_far if isinstance(so_far, list) else []), resumed]
        description |= {name: earlier[name] for name in ("init_from",) if name in earlier}

    results: dict[str, Any] = {}

    def write(status: Status, **more: Any) -> None:
        write_json(path / RECORD, {"status": status, **description, **results, **more})

    write(Status.RUNNING)
    try:
        yield results
    except TrainingDiverged as error:
        write(Status.DIVERGED, ended=_now(), frame=error.frame)
        raise
    except (Stopped, CallbackFailed, KeyboardInterrupt):
        write(Status.INTERRUPTED, ended=_now())
        raise
    except RunDirectoryLost:
        raise  # the record is that of another process
    except SimulationDiverged as error:
        write(Status.FAILED, ended=_now(), error=str(error))
        raise
    except BaseException:
        with contextlib.suppress(OSError):  # the disk may be full
            write(Status.FAILED, ended=_now(), error=traceback.format_exc())
        raise
    write(Status.FINISHED, ended=_now())


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
