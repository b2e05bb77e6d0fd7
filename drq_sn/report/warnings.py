"""What a reader must know before trusting a mean: one line each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

from drq_sn.report.costs import UNKNOWN, fact, short_commit
from drq_sn.report.score_formats import frames
from drq_sn.report.scores import RETURN, SETTINGS_UNKNOWN, Cell, setting_of
from drq_sn.report.tables import agent_title
from drq_sn.report.types import Plan, ScoredRun
from drq_sn.runs.reader import CRASHED, EVAL, FINISHED

NOTE = "note: "
PACKAGES = ("mujoco", "dm_control", "torch")
MAX_NAMED = 4


def cautions(runs: Sequence[ScoredRun], dropped: Sequence[tuple[ScoredRun, ScoredRun]]) -> list[str]:
    """Warnings about runs, whatever table they stand in; the milder ones begin with `note:` and come last.

    Args:
        runs: all that were found.
        dropped: pairs of a run whose seed is there twice and the one that counts in its place.
    """
    lines = [
        *(line for package in PACKAGES for line in _mixed(f"mixed versions of {package}", runs, _version(package))),
        *_mixed_frames(runs),
        *(line for run in runs for line in _continued_otherwise(run)),
        *_unknown_settings(runs),
        *_unrecorded(runs),
        *(_duplicate(*pair) for pair in dropped),
        *(line for run in runs for line in _evaluation_lines(run)),
        *_not_finished(runs),
        *_no_logs(runs),
        *(
            NOTE + line
            for line in _mixed("mixed OpenGL renderers", runs, lambda run: fact(run.record, "gl", "renderer"))
        ),
        *_commits(runs),
    ]
    return sorted(lines, key=lambda line: line.startswith(NOTE))


def _version(package: str) -> Callable[[ScoredRun], str]:
    return lambda run: fact(run.record, "versions", package)


def _mixed(what: str, runs: Iterable[ScoredRun], value_of: Callable[[ScoredRun], str]) -> Iterator[str]:
    """One line if `value_of` differs between runs that know it: every value with the runs that have it."""
    groups = {value: members for value, members in _groups(runs, value_of).items() if value != UNKNOWN}
    if len(groups) > 1:
        yield f"{what}: " + "; ".join(f"{value} in {name_runs(members)}" for value, members in groups.items())


def _groups(runs: Iterable[ScoredRun], value_of: Callable[[ScoredRun], str]) -> dict[str, list[ScoredRun]]:
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(value_of(run), []).append(run)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _mixed_frames(runs: Sequence[ScoredRun]) -> Iterator[str]:
    """Runs of one task under the same settings of the environment whose first frames differ."""
    worlds: dict[tuple[str, ...], list[ScoredRun]] = {}
    for run in runs:
        settings = (s for s in setting_of(run) if s.startswith(("env.", "action_repeat")))
        worlds.setdefault((run.run.task, *settings), []).append(run)
    for (task, *_), members in worlds.items():
        what = f"{task}: first frames differ, so runs did not see the same pixels"
        yield from _mixed(what, members, lambda run: fact(run.record, "first_frame_sha256")[:8])


def _continued_otherwise(run: ScoredRun) -> Iterator[str]:
    """One line per continuation after which a run was made by other versions or saw other pixels (see `run.json`)."""
    for resumed in run.record.get("resumed", []):
        before = resumed.get("before", {})
        names: list[tuple[str, ...]] = [("versions", package) for package in PACKAGES if "versions" in before]
        names += [("first_frame_sha256",)] if "first_frame_sha256" in before else []
        changed = [(name[-1], fact(before, *name), fact(run.record, *name)) for name in names]
        words = [f"{name} {old[:12]}, not {new[:12]}" for name, old, new in changed if old != new]
        if words:
            yield f"{name_runs([run])}: up to frame {frames(resumed['frame'])} made by {', '.join(words)}"


def _unknown_settings(runs: Iterable[ScoredRun]) -> Iterator[str]:
    members = [run for run in runs if SETTINGS_UNKNOWN in run.departures]
    if members:
        yield f"settings unknown, as config.yaml names no agent; the very same options are averaged: {name_runs(members)}"


def _unrecorded(runs: Iterable[ScoredRun]) -> Iterator[str]:
    facts = [("versions", package) for package in PACKAGES] + [("first_frame_sha256",)]
    members = [run for run in runs if any(fact(run.record, *names) == UNKNOWN for names in facts)]
    if members:
        yield f"no record of all versions and of the first frame, so nothing says whether they fit: {name_runs(members)}"


def _duplicate(run: ScoredRun, counted: ScoredRun) -> str:
    return (
        f"{name_runs([run])} is there twice: {counted.run.folder} with {len(counted.evaluations)} evaluations counts, "
        f"{run.run.folder} with {len(run.evaluations)} does not"
    )


def _evaluation_lines(run: ScoredRun) -> Iterator[str]:
    """Fewer evaluations or episodes than the run claims, and returns that are no number."""
    missing = [frame for frame in _claimed_frames(run) if frame not in _logged(run)]
    if missing:
        named = ", ".join(map(frames, missing[:MAX_NAMED])) + (" ..." if len(missing) > MAX_NAMED else "")
        yield f"{name_runs([run])}: {run.run.status}, but {len(missing)} evaluations are missing, at frames {named}"
    promised, log = _positive(run, "num_eval_episodes"), run.run.logs.get(EVAL)
    counts = [count for _, (count,) in log.values("num_episodes")] if log else []
    if promised is not None and any(count < promised for count in counts):
        few = [count for count in counts if count < promised]
        yield f"{name_runs([run])}: {len(few)} evaluations have fewer than {promised} episodes, at least {min(few):.0f}"
    yield from _repeated(run)
    bad = [frame for frame, value in _logged(run).items() if not math.isfinite(value)]
    if bad:
        yield f"{name_runs([run])}: left out where the return is no number: frames {', '.join(map(frames, bad))}"


def _claimed_frames(run: ScoredRun) -> list[int]:
    """Frames that a run must have been evaluated at; where it stands or crashed, the evaluation may not have begun."""
    end, period = _positive(run, "num_train_frames"), _positive(run, "eval_every_frames")
    if period is None:
        return []
    if run.run.status != FINISHED:
        return [*range(0, math.ceil(run.end_frame), period)]
    return [*range(0, end, period), end] if end else []


def _positive(run: ScoredRun, name: str) -> int | None:
    """The option `name`, where it is a number that can be meant."""
    value = run.options.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _repeated(run: ScoredRun) -> Iterator[str]:
    """Frames that stand in `eval.csv` again with another return."""
    log = run.run.logs.get(EVAL)
    found: dict[float, list[float]] = {}
    for frame, (value,) in log.values(RETURN) if log else ():
        found.setdefault(frame, []).append(value)
    twice = [frame for frame, values in found.items() if len(set(values)) > 1]
    if twice:
        yield f"{name_runs([run])}: evaluated more than once, the last return counts: frames {', '.join(map(frames, twice))}"


def _logged(run: ScoredRun) -> Mapping[float, float]:
    log = run.run.logs.get(EVAL)
    return {frame: mean for frame, (mean,) in log.values(RETURN)} if log else {}


def _not_finished(runs: Iterable[ScoredRun]) -> Iterator[str]:
    for status, members in _groups(runs, lambda run: run.run.status).items():
        if status == CRASHED:
            scored, others = ([run for run in members if bool(run.evaluations) == found] for found in (True, False))
            if scored:
                yield f"crashed: {name_runs(scored)}; their last evaluations stand for all later ones (†)"
            if others:
                yield f"crashed before any evaluation, in no mean: {name_runs(others)}"
        elif status != FINISHED:
            stand = sorted({run.run.last_frame for run in members})
            at = frames(stand[0]) + (f" to {frames(stand[-1])}" if len(stand) > 1 else "")
            yield f"{status}, not finished: {name_runs(members)}, at frame {at}"


def _no_logs(runs: Iterable[ScoredRun]) -> Iterator[str]:
    members = [run for run in runs if not run.evaluations and not run.crashed]
    if members:
        yield f"no evaluation yet: {name_runs(members)}"


def _commits(runs: Iterable[ScoredRun]) -> Iterator[str]:
    groups = _groups(runs, lambda run: short_commit(fact(run.record, "git_commit")))
    groups.pop(UNKNOWN, None)
    dirty = [run for commit, members in groups.items() if commit.endswith("-dirty") for run in members]
    if dirty:
        yield f"{NOTE}code that was changed after its commit: {name_runs(dirty)}"
    if len(groups) > 1:
        yield f"{NOTE}code of {len(groups)} commits: " + ", ".join(
            f"{commit} ({len(m)} runs)" for commit, m in groups.items()
        )


def table_cautions(plan: Plan, cells: Sequence[Cell], where: str, behind: str = "left out") -> list[str]:
    """What is missing from a table or figure that has runs: cells, seeds, and runs that are not there yet.

    Args:
        plan: what it asks for.
        cells: what it has.
        where: how lines call it.
        behind: what it does with runs that are not there yet.
    """
    filled = [cell for cell in cells if cell.runs]
    lines = []
    if not filled and not any(cell.left_out for cell in cells):
        return []
    empty = [cell for cell in cells if not cell.runs and not cell.left_out]
    if empty:
        named = _shorten([f"{cell.task} {cell.variant.label}" for cell in empty])
        lines.append(f"{where}: no runs for {len(empty)} of {len(cells)} cells: {named}")
    lines += _missing_seeds(plan, [cell for cell in cells if cell.runs or cell.left_out], where)
    sizes = sorted({len(cell.runs) for cell in filled})
    if len(sizes) > 1:
        lines.append(f"{where}: cells average different numbers of seeds, {sizes[0]} to {sizes[-1]}")
    return lines + left_out_cautions(cells, where, behind)


def left_out_cautions(cells: Iterable[Cell], where: str, behind: str = "left out") -> list[str]:
    """Runs without a score at the frame of their cell, and why; see `table_cautions` for the arguments."""
    groups: dict[tuple[float, str], list[ScoredRun]] = {}
    for cell in cells:
        for run in cell.left_out:
            groups.setdefault(_why_left_out(run, cell.frame), []).append(run)
    return [
        f"{where}: {behind}, {why}: {name_runs(members, limit=None)}"
        for (_, why), members in sorted(groups.items(), key=itemgetter(0))
    ]


def _why_left_out(run: ScoredRun, frame: float | None) -> tuple[float, str]:
    """By which such runs are put in order, and the reason."""
    last = max(run.evaluations, default=-1.0)
    if frame is not None and frame in _logged(run):
        return frame, f"no number at frame {frames(frame)}"
    if frame is not None and last > frame:
        return frame, f"not evaluated at frame {frames(frame)}"
    return last, f"evaluated up to frame {frames(last)}" if last >= 0 else "without evaluations"


def _missing_seeds(plan: Plan, cells: Iterable[Cell], where: str) -> Iterator[str]:
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for cell in cells:
        missing = tuple(sorted(set(plan.seeds) - {run.run.seed for run in (*cell.runs, *cell.left_out)}))
        if missing:
            groups.setdefault((cell.variant.label, missing), []).append(cell.task)
    for (label, missing), tasks in groups.items():
        yield f"{where}: {label} lacks seeds {ranges(missing)} of {ranges(plan.seeds)} on {_shorten(tasks, limit=None)}"


def name_runs(runs: Iterable[ScoredRun], limit: int | None = MAX_NAMED) -> str:
    """Runs by task, agent and variant, seeds together: `cheetah_run DrQ mlp2 seeds 1-3`; `limit` of them if they are more."""
    groups: dict[str, list[int]] = {}
    for run in runs:
        groups.setdefault(f"{run.run.task} {agent_title(run.variant.agent)} {run.variant.label}", []).append(
            run.run.seed
        )
    return _shorten(
        [f"{name} seed{'s' if len(seeds) > 1 else ''} {ranges(seeds)}" for name, seeds in groups.items()], limit
    )


def _shorten(names: Sequence[str], limit: int | None = MAX_NAMED) -> str:
    shown = names[:limit]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7` for 1, 2, 3, 7."""
    found: list[list[int]] = []
    for value in sorted(set(numbers)):
        if found and value == found[-1][1] + 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in found)
