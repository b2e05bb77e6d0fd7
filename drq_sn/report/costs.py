"""All runs with their costs."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drq_sn.report.table_formats import format_departures, format_frame, format_number
from drq_sn.report.types import Row, Run, Table
from drq_sn.report.variants import sort_variants
from drq_sn.runs.reader import EVAL, TRAIN

FIELDS = ("folder", "task", "agent", "head", "normalizer", "seed", "status", "last_frame", "last_evaluation",
          "last_return", "wall_hours", "frames_per_second", "num_updates", "device", "mujoco", "dm_control", "torch",
          "gl_renderer", "first_frame_sha256", "git_commit", "settings", "counted", "departures")  # fmt: skip
DIGITS = 12  # of hashes
UNKNOWN = "unknown"  # what `run.json` does not say
SECONDS_PER_HOUR = 3600


class Cost(NamedTuple):
    """The cost of one run so far."""

    hours: float | None  # of wall-clock time; None without logs
    frames_per_second: float | None  # median over training episodes, of those with updates if there are any
    num_updates: int  # calls of the learner
    device: str  # the hardware's name


def read_cost(run: Run) -> Cost:
    """The cost of `run` by its logs."""
    seconds = [*_finite(run, TRAIN, "wall_time_s").values(), *_finite(run, EVAL, "wall_time_s").values()]
    updates, speeds = _finite(run, TRAIN, "num_updates"), _finite(run, TRAIN, "frames_per_second")
    learning = [speed for frame, speed in speeds.items() if updates.get(frame)] or list(speeds.values())
    return Cost(
        max(seconds) / SECONDS_PER_HOUR if seconds else None,
        statistics.median(learning) if learning else None,
        int(max(updates.values(), default=0)),
        read_fact(run.record, "device"),
    )


def _finite(run: Run, file: str, column: str) -> dict[float, float]:
    return {frame: value for frame, value in run.logs[file].series(column).items() if math.isfinite(value)}


def read_fact(record: Mapping[str, Any], *names: str) -> str:
    """The value in `run.json` under nested `names`; `unknown` if there is none."""
    node: Any = record
    for name in names:
        node = node.get(name) if isinstance(node, Mapping) else None
    return UNKNOWN if node is None else str(node)


def runs_table(runs: Sequence[Run], duplicates: Collection[Run], start: Path) -> Table:
    """Every run by task, variant and seed, with its cost; `duplicates` do not count.

    Run directories are given relative to `start` in the CSV file.
    """
    everything = [*runs, *duplicates]
    ranks = {variant: rank for rank, variant in enumerate(sort_variants(run.variant for run in everything))}
    columns = ("run", "status", "last frame", "hours", "frames/s", "updates", "device")
    lines, records = [], []
    for run in sorted(everything, key=lambda run: (run.task, ranks[run.variant], run.seed)):
        cost = read_cost(run)
        numbers = (format_frame(run.last_frame), format_number(cost.hours, 2), format_number(cost.frames_per_second),
                   format_frame(cost.num_updates))  # fmt: skip
        lines.append((f"{run.title} seed {run.seed}", run.status, *numbers, cost.device))
        records.append(_run_record(run, cost, run not in duplicates, start))
    notes = [
        "hours: of wall-clock time, evaluations included. frames/s: median over training episodes with updates. "
        "Runs at the same time on one machine share it, and each counts in full."
    ]
    return Table("runs", columns, lines, notes, FIELDS, records, caption="Cost of each run.")


def _run_record(run: Run, cost: Cost, counted: bool, start: Path) -> Row:
    last = max(run.evaluations, default=None)
    commit, dirty, _ = read_fact(run.record, "git_commit").partition("-dirty")
    return {
        "folder": os.path.relpath(run.directory, start),
        "task": run.task,
        **{group: getattr(run.variant, group) for group in ("agent", "head", "normalizer")},
        "seed": run.seed,
        "status": run.status,
        "last_frame": run.last_frame,
        "last_evaluation": last,
        "last_return": None if last is None else run.evaluations[last],
        "wall_hours": None if cost.hours is None else round(cost.hours, 4),
        "frames_per_second": cost.frames_per_second,
        "num_updates": cost.num_updates,
        "device": cost.device,
        **{package: read_fact(run.record, "versions", package) for package in ("mujoco", "dm_control", "torch")},
        "gl_renderer": read_fact(run.record, "gl", "renderer"),
        "first_frame_sha256": read_fact(run.record, "first_frame_sha256")[:DIGITS],
        "git_commit": commit[:DIGITS] + dirty,
        "settings": run.setting,
        "counted": "yes" if counted else "no",
        "departures": "; ".join(format_departures(run.departures)),
    }
