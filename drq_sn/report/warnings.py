"""Warnings shown with the results, one line each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from drq_sn.report.costs import UNKNOWN, read_fact, shorten_commit
from drq_sn.report.scores import Cell, Setting
from drq_sn.report.table_formats import format_frame
from drq_sn.report.types import RETURN, Plan, Run
from drq_sn.runs.reader import EVAL
from drq_sn.runs.status import Status

NOTE = "note: "
PACKAGES = ("mujoco", "dm_control", "torch")
PROVENANCE = (*(("versions", package) for package in PACKAGES), ("first_frame_sha256",))
MAX_NAMED = 4


def general_warnings(settings: Sequence[Setting], runs: Sequence[Run]) -> list[str]:
    """Warnings about runs, whatever table they are in; minor ones begin with `note:` and come last.

    Args:
        settings: with their duplicate seeds.
        runs: all runs, in the order in which they are named.
    """
    lines = [
        *(line for package in PACKAGES for line in _mixed(f"mixed versions of {package}", runs, "versions", package)),
        *_mixed_frames(runs),
        *(line for run in runs for line in _resumed_elsewhere(run)),
        *_unrecorded(runs),
        *(_duplicate(*pair) for setting in settings for pair in setting.duplicates),
        *(line for run in runs for line in _evaluation_warnings(run)),
        *_not_finished(runs),
        *_no_evaluation(runs),
        *(NOTE + line for line in _mixed("mixed OpenGL renderers", runs, "gl", "renderer")),
        *_commits(runs),
    ]
    return sorted(lines, key=lambda line: line.startswith(NOTE))


def _mixed(what: str, runs: Iterable[Run], *names: str, digits: int | None = None) -> Iterator[str]:
    """One line if the fact `names` of `run.json` differs between runs: every value with the runs that have it."""
    groups = _group(runs, lambda run: read_fact(run.record, *names)[:digits])
    groups.pop(UNKNOWN, None)
    if len(groups) > 1:
        yield f"{what}: " + "; ".join(f"{value} in {name_runs(members)}" for value, members in groups.items())


def _group(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    """Key -> its runs, largest group first."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _mixed_frames(runs: Sequence[Run]) -> Iterator[str]:
    """Runs of one task under the same settings of the environment whose first frames differ."""
    environments = _group(
        runs, lambda run: (run.task, *(s for s in run.setting if s.startswith(("env.", "action_repeat"))))
    )
    for (task, *_), members in environments.items():
        what = f"{task}: first frames differ, so runs did not see the same pixels"
        yield from _mixed(what, members, *PROVENANCE[-1], digits=8)


def _resumed_elsewhere(run: Run) -> Iterator[str]:
    """One line per resumption after which library versions or pixels differ (see `run.json`)."""
    for resumed in run.record.get("resumed", []):
        before = resumed.get("before", {})
        changed = [
            f"{names[-1]} {read_fact(before, *names)[:12]}, not {read_fact(run.record, *names)[:12]}"
            for names in PROVENANCE
            if names[0] in before and read_fact(before, *names) != read_fact(run.record, *names)
        ]
        if changed:
            yield f"{name_runs([run])}: up to frame {format_frame(resumed['frame'])} made by {', '.join(changed)}"


def _unrecorded(runs: Iterable[Run]) -> Iterator[str]:
    members = [run for run in runs if any(read_fact(run.record, *names) == UNKNOWN for names in PROVENANCE)]
    if members:
        yield f"library versions or first frame not recorded, so they may differ: {name_runs(members)}"


def _duplicate(run: Run, counted: Run) -> str:
    return (
        f"{name_runs([run])} exists twice: {counted.directory} with {len(counted.evaluations)} evaluations counts, "
        f"{run.directory} with {len(run.evaluations)} does not"
    )


def _evaluation_warnings(run: Run) -> Iterator[str]:
    """Missing, short, repeated and non-finite evaluations."""
    name, logged = name_runs([run]), run.logs[EVAL].series(RETURN)
    missing = [frame for frame in _expected_frames(run) if frame not in logged]
    if missing:
        named = _join(list(map(format_frame, missing)))
        yield f"{name}: {run.status}, but {len(missing)} evaluations are missing, at frames {named}"
    num_episodes = _positive_option(run, "num_eval_episodes") or 0
    short = [count for _, (count,) in run.logs[EVAL].rows("num_episodes") if count < num_episodes]
    if short:
        yield f"{name}: {len(short)} evaluations have fewer than {num_episodes} episodes, at least {min(short):.0f}"
    returns: dict[float, set[float]] = {}
    for frame, (value,) in run.logs[EVAL].rows(RETURN):
        returns.setdefault(frame, set()).add(value)
    repeated = [format_frame(frame) for frame, values in returns.items() if len(values) > 1]
    if repeated:
        yield f"{name}: evaluated more than once, the last return counts: frames {', '.join(repeated)}"
    bad = [format_frame(frame) for frame, value in logged.items() if not math.isfinite(value)]
    if bad:
        yield f"{name}: left out where the return is not finite: frames {', '.join(bad)}"


def _expected_frames(run: Run) -> list[int]:
    """Frames of evaluations up to the last logged frame, whose own evaluation may not have started."""
    end, period = _positive_option(run, "num_train_frames"), _positive_option(run, "eval_every_frames")
    if period is None:
        return []
    if run.status is not Status.FINISHED:
        return [*range(0, math.ceil(run.end_frame), period)]
    return [*range(0, end, period), end] if end else []


def _positive_option(run: Run, name: str) -> int | None:
    value = run.options.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _not_finished(runs: Iterable[Run]) -> Iterator[str]:
    for status, members in _group(runs, lambda run: run.status).items():
        if status is Status.DIVERGED:
            scored, others = ([run for run in members if bool(run.evaluations) == has] for has in (True, False))
            if scored:
                yield f"diverged: {name_runs(scored)}; their last evaluations are carried forward (†)"
            if others:
                yield f"diverged before any evaluation, in no mean: {name_runs(others)}"
        elif status is not Status.FINISHED:
            last_frames = sorted({run.last_frame for run in members})
            at = " to ".join(map(format_frame, dict.fromkeys((last_frames[0], last_frames[-1]))))
            yield f"{status}, not finished: {name_runs(members)}, at frame {at}"


def _no_evaluation(runs: Iterable[Run]) -> Iterator[str]:
    members = [run for run in runs if not run.evaluations and not run.diverged]
    if members:
        yield f"no evaluation yet: {name_runs(members)}"


def _commits(runs: Iterable[Run]) -> Iterator[str]:
    groups = _group(runs, lambda run: shorten_commit(read_fact(run.record, "git_commit")))
    groups.pop(UNKNOWN, None)
    dirty = [run for commit, members in groups.items() if commit.endswith("-dirty") for run in members]
    if dirty:
        yield f"{NOTE}code with uncommitted changes: {name_runs(dirty)}"
    if len(groups) > 1:
        counts = ", ".join(f"{commit} ({len(members)} runs)" for commit, members in groups.items())
        yield f"{NOTE}code of {len(groups)} commits: {counts}"


def table_warnings(plan: Plan, cells: Sequence[Cell], where: str, behind: str = "left out") -> list[str]:
    """Runs that a table or figure lacks: cells, seeds, and runs that have not reached its frame.

    Args:
        plan: what it needs.
        cells: what it has; without any runs, nothing is reported.
        where: its name.
        behind: what it does with runs that have not reached its frame.
    """
    started = [cell for cell in cells if cell.runs or cell.left_out]
    if not started:
        return []
    lines = []
    empty = [f"{cell.task} {cell.variant.label}" for cell in cells if not cell.runs and not cell.left_out]
    if empty:
        lines.append(f"{where}: no runs for {len(empty)} of {len(cells)} cells: {_join(empty)}")
    lines += _missing_seeds(plan, started, where)
    sizes = sorted({len(cell.runs) for cell in cells if cell.runs})
    if len(sizes) > 1:
        lines.append(f"{where}: cells average different numbers of seeds, {sizes[0]} to {sizes[-1]}")
    return lines + left_out_warnings(cells, where, behind)


def left_out_warnings(cells: Iterable[Cell], where: str, behind: str = "left out") -> list[str]:
    """Runs without a score at the frame of their cell, and why; see `table_warnings` for the arguments."""
    groups: dict[tuple[float, str], list[Run]] = {}
    for cell in cells:
        for run in cell.left_out:
            groups.setdefault(_why_left_out(run, cell.frame), []).append(run)
    return [
        f"{where}: {behind}, {why}: {name_runs(members, limit=None)}"
        for (_, why), members in sorted(groups.items(), key=itemgetter(0))
    ]


def _why_left_out(run: Run, frame: float | None) -> tuple[float, str]:
    """A sort key and the reason."""
    last = max(run.evaluations, default=-1.0)
    if frame is not None and frame in run.logs[EVAL].series(RETURN):
        return frame, f"no finite return at frame {format_frame(frame)}"
    if frame is not None and last > frame:
        return frame, f"not evaluated at frame {format_frame(frame)}"
    return last, f"evaluated up to frame {format_frame(last)}" if last >= 0 else "without evaluations"


def _missing_seeds(plan: Plan, cells: Iterable[Cell], where: str) -> Iterator[str]:
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for cell in cells:
        missing = tuple(sorted(set(plan.seeds) - {run.seed for run in (*cell.runs, *cell.left_out)}))
        if missing:
            groups.setdefault((cell.variant.label, missing), []).append(cell.task)
    for (label, missing), tasks in groups.items():
        seeds = f"{format_ranges(missing)} of {format_ranges(plan.seeds)}"
        yield f"{where}: {label} lacks seeds {seeds} on {', '.join(tasks)}"


def name_runs(runs: Iterable[Run], limit: int | None = MAX_NAMED) -> str:
    """`cheetah_run DrQ mlp2 seeds 1-3`, up to `limit` of them."""
    groups: dict[str, list[int]] = {}
    for run in runs:
        groups.setdefault(run.title, []).append(run.seed)
    named = [f"{title} seed{'s' if len(seeds) > 1 else ''} {format_ranges(seeds)}" for title, seeds in groups.items()]
    return _join(named, limit)


def _join(names: Sequence[str], limit: int | None = MAX_NAMED) -> str:
    shown = names[:limit]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def format_ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7` for 1, 2, 3, 7."""
    ranges: list[list[int]] = []
    for value in sorted(set(numbers)):
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1][1] = value
        else:
            ranges.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
