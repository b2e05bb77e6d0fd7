"""Costs of runs, and the list of all of them."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drq_sn.report.scores import Setting
from drq_sn.report.table_formats import format_departures, format_frame, format_number
from drq_sn.report.types import Row, Run, Table, agent_title, sort_variants
from drq_sn.runs.reader import EVAL, TRAIN

FIELDS = ("folder", "task", "agent", "head", "normalizer", "seed", "status", "last_frame", "last_evaluation",
          "last_return", "wall_hours", "frames_per_second", "num_updates", "device", "mujoco", "dm_control", "torch",
          "gl_renderer", "first_frame_sha256", "git_commit", "settings", "counted", "departures")  # fmt: skip
HASH_DIGITS = COMMIT_DIGITS = 12
UNKNOWN = "unknown"  # what `run.json` does not say
SECONDS_PER_HOUR = 3600


class Cost(NamedTuple):
    """The cost of one run so far.

    Attributes:
        hours: of wall-clock time; None without logs.
        frames_per_second: median over training episodes, of those with updates if there are any.
        num_updates: calls of the learner.
        device: the hardware's name.
    """

    hours: float | None
    frames_per_second: float | None
    num_updates: int
    device: str


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


def list_runs(settings: Iterable[Setting]) -> list[tuple[Run, Setting]]:
    """Every run with its setting, by task, variant and seed."""
    pairs = [(run, setting) for setting in settings for run in setting.all_runs]
    ranks = {variant: rank for rank, variant in enumerate(sort_variants(run.variant for run, _ in pairs))}
    return sorted(pairs, key=lambda pair: (pair[0].task, ranks[pair[0].variant], pair[0].seed))


def cost_table(runs: Sequence[tuple[Run, Setting]]) -> Table:
    """One line per run."""
    columns = ("run", "settings", "status", "last frame", "hours", "frames/s", "updates", "device")
    lines = []
    for run, setting in runs:
        cost = read_cost(run)
        numbers = (format_frame(run.last_frame), format_number(cost.hours, 2), format_number(cost.frames_per_second),
                   format_frame(cost.num_updates))  # fmt: skip
        lines.append((f"{run.title} seed {run.seed}", setting.name, run.status, *numbers, cost.device))
    notes = [
        "hours: of wall-clock time, evaluations included. frames/s: median over training episodes with updates. "
        "Runs at the same time on one machine share it, and each counts in full."
    ]
    return Table("costs", columns, lines, notes)


def total_table(runs: Iterable[Run]) -> Table:
    """Hours per variant and device."""
    totals: dict[tuple[str, str, str], list[float]] = {}
    for run in runs:
        cost = read_cost(run)
        if cost.hours is not None:
            totals.setdefault((agent_title(run.variant.agent), run.variant.label, cost.device), []).append(cost.hours)
    lines = [(*key, str(len(hours)), format_number(sum(hours), 2)) for key, hours in sorted(totals.items())]
    return Table("total_costs", ("agent", "variant", "device", "runs", "device hours"), lines)


def runs_rows(runs: Sequence[tuple[Run, Setting]], start: Path) -> list[Row]:
    """A row of `runs.csv` per run; directories are relative to `start`."""
    return [_run_row(run, setting, start) for run, setting in runs]


def _run_row(run: Run, setting: Setting, start: Path) -> Row:
    cost, record = read_cost(run), run.record
    last = max(run.evaluations, default=None)
    return {
        "folder": os.path.relpath(run.directory, start),
        "task": run.task,
        **run.variant._asdict(),
        "seed": run.seed,
        "status": run.status,
        "last_frame": run.last_frame,
        "last_evaluation": last,
        "last_return": None if last is None else run.evaluations[last],
        "wall_hours": None if cost.hours is None else round(cost.hours, 4),
        "frames_per_second": cost.frames_per_second,
        "num_updates": cost.num_updates,
        "device": cost.device,
        **{package: read_fact(record, "versions", package) for package in ("mujoco", "dm_control", "torch")},
        "gl_renderer": read_fact(record, "gl", "renderer"),
        "first_frame_sha256": read_fact(record, "first_frame_sha256")[:HASH_DIGITS],
        "git_commit": shorten_commit(read_fact(record, "git_commit")),
        "settings": setting.name,
        "counted": "no" if any(run is duplicate for duplicate, _ in setting.duplicates) else "yes",
        "departures": "; ".join(format_departures(run.departures)),
    }


def shorten_commit(commit: str) -> str:
    """The first digits of a commit, `-dirty` kept."""
    name, dirty, _ = commit.partition("-dirty")
    return name[:COMMIT_DIGITS] + dirty
