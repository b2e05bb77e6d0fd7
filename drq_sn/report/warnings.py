"""Warnings shown with the results, one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from drq_sn.report.costs import UNKNOWN, read_fact
from drq_sn.report.scores import Cell, runs_of_tasks, select_runs
from drq_sn.report.table_formats import format_frame
from drq_sn.report.types import Experiment, Run
from drq_sn.runs.status import Status

PACKAGES = ("mujoco", "dm_control", "minatar", "torch")
MAX_NAMED = 4


def general_warnings(runs: Sequence[Run], duplicates: Iterable[tuple[Run, Run]]) -> list[str]:
    """Warnings about runs, whatever table they are in; of two duplicates, the second counts."""
    return [
        *(line for package in PACKAGES for line in _mixed(f"mixed versions of {package}", runs, "versions", package)),
        *_mixed_frames(runs),
        *(
            f"{name_runs([run])} exists twice: {counted.directory} with {len(counted.evaluations)} evaluations counts, "
            f"{run.directory} with {len(run.evaluations)} does not"
            for run, counted in duplicates
        ),
        *_not_finished(runs),
        *(log.damage for run in runs for log in run.logs.values() if log.damage),
    ]


def _mixed(what: str, runs: Iterable[Run], *names: str, shown: int | None = None) -> Iterator[str]:
    """One line if the fact `names` of `run.json` differs between runs: every value with the runs that have it.

    The line has the first `shown` characters of each value.
    """
    groups = _group(runs, lambda run: read_fact(run.record, *names))
    groups.pop(UNKNOWN, None)
    if len(groups) > 1:
        yield f"{what}: " + "; ".join(f"{value[:shown]} in {name_runs(members)}" for value, members in groups.items())


def _group(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    """Key -> its runs, largest group first."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _mixed_frames(runs: Sequence[Run]) -> Iterator[str]:
    """Runs of one task under the same settings of the environment whose first frames differ."""
    environments = _group(
        runs,
        lambda run: (run.task, *(d.assignment for d in run.departures if d.name.startswith(("env.", "action_repeat")))),
    )
    for (task, *_), members in environments.items():
        yield from _mixed(f"{task}: first frames differ, so runs did not see the same pixels", members,
                          "first_frame_sha256", shown=12)  # fmt: skip


def _not_finished(runs: Iterable[Run]) -> Iterator[str]:
    for status, members in _group(runs, lambda run: run.status).items():
        if status is Status.DIVERGED:
            yield f"diverged: {name_runs(members)}; their last evaluations are carried forward (†)"
        elif status is not Status.FINISHED:
            last_frames = sorted({run.last_frame for run in members})
            at = " to ".join(map(format_frame, dict.fromkeys((last_frames[0], last_frames[-1]))))
            yield f"{status}, not finished: {name_runs(members)}, at frame {at}"


def missing_seeds(experiment: Experiment, cells: Iterable[Cell], where: str) -> list[str]:
    """Seeds of `experiment` that the table `where` lacks in cells that have others, by variant."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for cell in cells:
        runs = (*cell.runs, *cell.left_out)
        missing = tuple(sorted(set(experiment.seeds) - {run.seed for run in runs}))
        if runs and missing:
            groups.setdefault((cell.variant.label, missing), []).append(cell.task)
    seeds = format_ranges(experiment.seeds)
    return [
        f"{where}: {label} lacks seeds {format_ranges(missing)} of {seeds} on {', '.join(tasks)}"
        for (label, missing), tasks in groups.items()
    ]


def other_settings(experiment: Experiment, runs: Sequence[Run], where: str) -> list[str]:
    """Runs that the table `where` leaves out because of their settings; see `with_one_setting`."""
    candidates, selected = runs_of_tasks(experiment, runs), select_runs(experiment, runs)
    directories = {run.directory for run in selected}
    if not (others := [run for run in candidates if run.directory not in directories]):
        return []
    if not selected:
        return [
            f"{where}: not shown, since runs have several settings and none is the published one: {name_runs(others)}"
        ]
    return [f"{where}: left out, at other settings than the published one: {name_runs(others)}"]


def left_out_warnings(cells: Iterable[Cell], where: str) -> list[str]:
    """Runs that the table `where` leaves out because they have no score at the frame of their cell."""
    groups: dict[str, list[Run]] = {}
    for cell in cells:
        for run in cell.left_out:
            groups.setdefault(_why_left_out(run, cell.frame), []).append(run)
    return [f"{where}: left out, {why}: {name_runs(runs, limit=None)}" for why, runs in groups.items()]


def _why_left_out(run: Run, frame: float | None) -> str:
    if not run.evaluations:
        return "without evaluations"
    last = max(run.evaluations)
    if frame is not None and last > frame:
        return f"not evaluated at frame {format_frame(frame)}"
    return f"evaluated up to frame {format_frame(last)}"


def name_runs(runs: Iterable[Run], limit: int | None = MAX_NAMED) -> str:
    """`cheetah_run DrQ mlp2 seeds 1-3`, up to `limit` of them."""
    groups: dict[str, list[int]] = {}
    for run in runs:
        groups.setdefault(run.title, []).append(run.seed)
    named = [f"{title} seed{'s' if len(seeds) > 1 else ''} {format_ranges(seeds)}" for title, seeds in groups.items()]
    shown = named[:limit]
    return "; ".join(shown) + (f" and {len(named) - len(shown)} more" if len(shown) < len(named) else "")


def format_ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7` for 1, 2, 3, 7."""
    ranges: list[list[int]] = []
    for value in sorted(set(numbers)):
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1][1] = value
        else:
            ranges.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
