"""Progress of runs, read from their run directories."""

from __future__ import annotations

import contextlib
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from drq_sn.runs.reader import EVAL, TRAIN, Log, read_log, read_record
from drq_sn.runs.status import Status
from drq_sn.validation import InvalidInput

NUM_RECENT = 5  # episodes over which the speed is averaged


class Progress(NamedTuple):
    """Progress of one run; None for what is not known yet."""

    status: Status  # from `run.json`; `WAITING` without one
    frame: int  # last frame in the logs
    evaluation: float | None  # mean return of the last evaluation
    frames_per_second: float | None  # mean over the last episodes


def read_progress(run_dir: Path) -> Progress:
    """Read the progress of the run in `run_dir`; unreadable files are ignored."""
    train, evaluations = _log(run_dir / TRAIN), _log(run_dir / EVAL)
    speeds, returns = _numbers(train, "frames_per_second")[-NUM_RECENT:], _numbers(evaluations, "episode_return_mean")
    frames = [*train.frames, *evaluations.frames]
    return Progress(
        Status(read_record(run_dir).get("status", Status.WAITING)),
        int(max(frames, default=0)),
        returns[-1] if returns else None,
        sum(speeds) / len(speeds) if speeds else None,
    )


def _log(path: Path) -> Log:
    with contextlib.suppress(InvalidInput):
        return read_log(path)
    return Log(path)


def _numbers(log: Log, column: str) -> list[float]:
    with contextlib.suppress(InvalidInput):
        return list(log.series(column).values())
    return []


def format_count(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_return(episode_returns: Sequence[float]) -> str:
    """`return 853.2 ± 12.1 (sd of 10 episodes)`; one episode has no sd."""
    sd = f" ± {statistics.stdev(episode_returns):.1f}" if len(episode_returns) > 1 else ""
    of = "sd of " if sd else ""
    return f"return {statistics.fmean(episode_returns):.1f}{sd} ({of}{format_count(len(episode_returns), 'episode')})"


def total(states: Sequence[Progress]) -> str:
    """Number of runs per status: `2 running, 5 waiting`."""
    counts = Counter(state.status for state in states)
    return ", ".join(f"{count} {status}" for status, count in counts.items())
