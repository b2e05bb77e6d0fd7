"""What runs cost, and the list of all of them."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drq_sn.report.score_formats import frames, number
from drq_sn.report.scores import Setting
from drq_sn.report.tables import agent_title
from drq_sn.report.types import ScoredRun, Table
from drq_sn.runs.reader import EVAL, TRAIN

FIELDS = ("folder", "task", "agent", "head", "normalizer", "seed", "status", "last_frame", "last_evaluation", "last_return",
          "wall_hours", "frames_per_second", "num_updates", "device", "mujoco", "dm_control", "torch", "gl_renderer",
          "first_frame_sha256", "git_commit", "settings", "counted", "departures")  # fmt: skip
HASH_DIGITS = COMMIT_DIGITS = 12
UNKNOWN = "unknown"
SECONDS_PER_HOUR = 3600

Row = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What one run cost so far.

    Attributes:
        hours: of wall-clock time; None where its logs have not begun.
        frames_per_second: median over training episodes, of those with updates if there are any.
        num_updates: calls of the learner.
        device: the hardware's name.
    """

    hours: float | None
    frames_per_second: float | None
    num_updates: int
    device: str


def cost_of(run: ScoredRun) -> Cost:
    """What `run`'s logs say it cost."""
    seconds = [*_column(run, TRAIN, "wall_time_s").values(), *_column(run, EVAL, "wall_time_s").values()]
    updates = _column(run, TRAIN, "num_updates")
    speeds = _column(run, TRAIN, "frames_per_second")
    taken = [speed for frame, speed in speeds.items() if updates.get(frame)] or list(speeds.values())
    return Cost(
        max(seconds) / SECONDS_PER_HOUR if seconds else None,
        statistics.median(taken) if taken else None,
        int(max(updates.values(), default=0)),
        fact(run.record, "device"),
    )


def _column(run: ScoredRun, file: str, name: str) -> dict[float, float]:
    """Frame -> the finite number that stands there last."""
    log = run.run.logs.get(file)
    return {frame: value for frame, (value,) in log.values(name) if math.isfinite(value)} if log else {}


def fact(record: Mapping[str, Any], *names: str) -> str:
    """What `run.json` says under nested `names`; `unknown` where it does not."""
    node: Any = record
    for name in names:
        node = node.get(name) if isinstance(node, Mapping) else None
    return UNKNOWN if node is None else str(node)


def cost_table(runs: Sequence[ScoredRun], settings: Mapping[int, Setting]) -> Table:
    """One line per run; `settings` has the setting of each by `id`."""
    columns = ("run", "settings", "status", "last frame", "hours", "frames/s", "updates", "device")
    lines = []
    for run in runs:
        cost = cost_of(run)
        name = f"{run.run.task} {agent_title(run.variant.agent)} {run.variant.label} seed {run.run.seed}"
        numbers = (
            frames(run.run.last_frame),
            number(cost.hours, 2),
            number(cost.frames_per_second),
            frames(cost.num_updates),
        )
        lines.append((name, settings[id(run)].name, run.run.status, *numbers, cost.device))
    notes = [
        "hours: of wall-clock time, evaluations included. frames/s: median over training episodes with updates. "
        "Runs beside each other on one machine share it, and each counts in full."
    ]
    return Table("costs", columns, lines, notes)


def total_table(runs: Sequence[ScoredRun]) -> Table:
    """Hours per variant and device."""
    totals: dict[tuple[str, str, str], list[float]] = {}
    for run in runs:
        cost = cost_of(run)
        if cost.hours is not None:
            totals.setdefault((agent_title(run.variant.agent), run.variant.label, cost.device), []).append(cost.hours)
    lines = [(*key, str(len(hours)), number(sum(hours), 2)) for key, hours in sorted(totals.items())]
    return Table("total_costs", ("agent", "variant", "device", "runs", "device hours"), lines)


def runs_rows(runs: Sequence[ScoredRun], settings: Mapping[int, Setting], counted: set[int], start: Path) -> list[Row]:
    """A row of `runs.csv` for every run.

    Args:
        runs: all that were found.
        settings: `id` of a run -> its setting.
        counted: `id`s of the runs that count; the others are second folders of a seed.
        start: folder that the runs' folders are given relative to.
    """
    return [_run_row(run, settings[id(run)], id(run) in counted, start) for run in runs]


def _run_row(run: ScoredRun, setting: Setting, counted: bool, start: Path) -> Row:
    cost, record = cost_of(run), run.record
    last = max(run.evaluations, default=None)
    return {
        "folder": os.path.relpath(run.run.folder, start),
        "task": run.run.task,
        **run.variant._asdict(),
        "seed": run.run.seed,
        "status": run.run.status,
        "last_frame": run.run.last_frame,
        "last_evaluation": last,
        "last_return": None if last is None else run.evaluations[last],
        "wall_hours": None if cost.hours is None else round(cost.hours, 4),
        "frames_per_second": cost.frames_per_second,
        "num_updates": cost.num_updates,
        "device": cost.device,
        **{package: fact(record, "versions", package) for package in ("mujoco", "dm_control", "torch")},
        "gl_renderer": fact(record, "gl", "renderer"),
        "first_frame_sha256": fact(record, "first_frame_sha256")[:HASH_DIGITS],
        "git_commit": short_commit(fact(record, "git_commit")),
        "settings": setting.name,
        "counted": "yes" if counted else "no",
        "departures": "; ".join(run.departures),
    }


def short_commit(commit: str) -> str:
    """The first digits of a commit, `-dirty` kept."""
    name, dirty, _ = commit.partition("-dirty")
    return name[:COMMIT_DIGITS] + dirty
