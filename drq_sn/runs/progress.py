"""How far runs are, as their folders tell it while they are written."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from drq_sn.runs.reader import CONFIG, CRASHED, EVAL, FINISHED, TRAIN, Log, read_log, read_record
from drq_sn.validation import InvalidInput

WAITING = "waiting"  # for its turn; what else runs can be stands in `run_logs`
ENDED = (FINISHED, CRASHED)
"""What nothing is left to do for."""
NUM_RECENT = 5  # episodes that the speed is the mean of


class Progress(NamedTuple):
    """How far one run is; None for what it has not told yet.

    Attributes:
        status: as `run.json` has it, or `waiting`.
        frame: last frame that a log has a row for.
        evaluation: mean return of the last evaluation.
        frames_per_second: over the last episodes.
        error: last line of why it failed.
    """

    status: str
    frame: int
    evaluation: float | None
    frames_per_second: float | None
    error: str = ""


def read_progress(run_dir: Path) -> Progress:
    """What the folder of a run says now; a file that can't be read says nothing."""
    record = read_record(run_dir)
    train, evaluations = _log(run_dir / TRAIN), _log(run_dir / EVAL)
    speeds, returns = _numbers(train, "frames_per_second")[-NUM_RECENT:], _numbers(evaluations, "episode_return_mean")
    frames = [frame for log in (train, evaluations) for _, frame, _ in log.rows]
    error = str(record.get("error", "")).strip().splitlines()
    return Progress(
        str(record.get("status", WAITING)),
        int(max(frames, default=0)),
        returns[-1] if returns else None,
        sum(speeds) / len(speeds) if speeds else None,
        error[-1] if error else "",
    )


def is_over(run_dir: Path) -> bool:
    """Whether the run in `run_dir` has nothing left to do."""
    return (run_dir / CONFIG).is_file() and read_record(run_dir).get("status") in ENDED


def _log(path: Path) -> Log:
    with contextlib.suppress(InvalidInput):
        if path.is_file():
            return read_log(path)
    return Log(path, [])


def _numbers(log: Log, column: str) -> list[float]:
    with contextlib.suppress(InvalidInput):
        return [value for _, values in log.values(column) for value in values]
    return []


def number(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def total(states: Sequence[Progress]) -> str:
    """How many runs there are of each status: `2 running, 5 waiting`."""
    counts = Counter(state.status for state in states)
    return ", ".join(f"{count} {status}" for status, count in counts.items())
