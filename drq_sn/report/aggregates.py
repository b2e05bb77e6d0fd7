"""What all tasks of an agent say together, by rliable (Agarwal et al. 2021)."""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from drq_sn.report.score_formats import ABSENT, frames, number
from drq_sn.report.scores import common_frame, in_order, make_cell
from drq_sn.report.tables import agent_title
from drq_sn.report.types import Aggregates, Interval, ScoredRun, Table, Variant

MAX_RETURN = 1000.0  # of an episode in the suite
THRESHOLDS = np.linspace(0.0, 1.0, 101)
FIELDS = (
    "settings",
    "agent",
    "frame",
    "statistic",
    "variant",
    "than",
    "threshold",
    "value",
    "low",
    "high",
    "num_tasks",
    "num_seeds",
)

Scores = Mapping[str, np.ndarray]
"""Label of a variant -> scores, shape (runs, tasks)."""


def collect(runs: Sequence[ScoredRun], frame: float) -> tuple[Scores, tuple[str, ...], list[str]]:
    """Scores of one agent's runs as rectangles, and what had to be left out for that.

    Args:
        runs: of one agent and one setting.
        frame: at which they are compared.

    Returns:
        Scores; the tasks they have in common; one line for tasks, one for variants, and one per variant that lost seeds.
    """
    variants = in_order(run.variant for run in runs)
    tasks = sorted({run.run.task for run in runs})
    cells = {(v, task): make_cell(runs, task, v, frame).scores for v in variants for task in tasks}
    counts = {v: {task: len(cells[v, task]) for task in tasks if cells[v, task]} for v in variants}
    taking_part, common = _rectangle(counts, tasks)
    at = f"at frame {frames(frame)}"
    lost = ", ".join(task for task in tasks if task not in common)
    notes = (
        [f"tasks that not every variant has {at}, with half its usual seeds or more, are left out: {lost}"]
        if lost
        else []
    )
    late = ", ".join(v.label for v in variants if v not in taking_part)
    notes += [f"variants {at} on fewer than half as many tasks as the one on most are left out: {late}"] if late else []
    scores = {}
    for v in taking_part if common else []:
        least, most = (extreme(counts[v][task] for task in common) for extreme in (min, max))
        scores[v.label] = np.array([cells[v, task][:least] for task in common]).T / MAX_RETURN
        if most > least:
            notes.append(f"{v.label}: {least} of up to {most} seeds are taken, as many as every task has")
        if least == 1:
            notes.append(f"{v.label}: one seed per task tells nothing about other seeds: its intervals mean nothing")
    return scores, common, notes


def _rectangle(
    counts: Mapping[Variant, Mapping[str, int]], tasks: Sequence[str]
) -> tuple[list[Variant], tuple[str, ...]]:
    """Variants and tasks to compare, so that a stray run cannot make all the others count for nothing.

    Args:
        counts: variant -> task -> seeds, where there are any.
        tasks: all of them.

    Returns:
        Variants on at least half as many tasks as the one on most, and the tasks on which each of these has at least half as
        many seeds as it usually has: the median over its tasks.
    """
    most = max(map(len, counts.values()), default=0)
    taking_part = [v for v, own in counts.items() if own and len(own) >= most / 2]
    usual = {v: statistics.median(counts[v].values()) for v in taking_part}
    common = (task for task in tasks if all(counts[v].get(task, 0) >= usual[v] / 2 for v in taking_part))
    return taking_part, tuple(common)


def aggregate(
    agent: str, runs: Sequence[ScoredRun], limit: float, frame: float | None, num_bootstrap: int, seed: int
) -> tuple[Aggregates | None, list[str]]:
    """Statistics over all common tasks of one agent's runs in one setting, and what was left out.

    Args:
        agent: whose runs they are.
        runs: each seed once.
        limit: largest frame that runs are compared at, where `frame` does not say.
        frame: at which runs are compared; None for the largest that any was evaluated at.
        num_bootstrap: resamples for the intervals.
        seed: of the resampling.

    Returns:
        None where no task has scores, and the reason in the notes.
    """
    at = common_frame(runs, limit) if frame is None else frame
    scores, tasks, notes = collect(runs, at) if at is not None else ({}, (), [])
    if at is None or not scores:
        return None, [*notes, "no task has scores of every variant"]
    try:
        with _bootstrap_from(seed):
            iqm, improvement, profiles = _estimate(scores, num_bootstrap)
    except ModuleNotFoundError as error:
        return None, [f"{error.name} is not installed: `make setup` installs what aggregates need"]
    num_seeds = {label: len(matrix) for label, matrix in scores.items()}
    return Aggregates(agent, at, tasks, num_seeds, iqm, improvement, THRESHOLDS, profiles), notes


@contextlib.contextmanager
def _bootstrap_from(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which rliable draws from whatever it is given, and leave it as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _estimate(
    scores: Scores, reps: int
) -> tuple[dict[str, Interval], dict[tuple[str, str], Interval], dict[str, np.ndarray]]:
    from absl import logging
    from rliable import library, metrics  # costs seconds, and only a report needs it

    logging.set_verbosity(logging.WARNING)  # it tells of every estimate

    def iqm(matrix: np.ndarray) -> np.ndarray:
        return np.array([metrics.aggregate_iqm(matrix)])

    values, bounds = library.get_interval_estimates(scores, iqm, reps=reps)
    iqms = {label: Interval(float(values[label][0]), *map(float, bounds[label][:, 0])) for label in scores}
    pairs = {(y, x): [scores[y], scores[x]] for x, y in itertools.combinations(scores, 2)}
    improvements = {}
    if pairs:
        values, bounds = library.get_interval_estimates(pairs, probability_of_improvement, reps=reps)
        improvements = {pair: Interval(float(values[pair][0]), *map(float, bounds[pair][:, 0])) for pair in pairs}
    values, bounds = library.create_performance_profile(scores, THRESHOLDS, custom_profile_func=share_above, reps=reps)
    profiles = {label: np.vstack([values[label], bounds[label]]) for label in scores}
    return iqms, improvements, profiles


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Probability that a run of x scores higher than one of y on the same task, a tie counted half; mean over tasks.

    What rliable's metric of this name is, without a test per task, of which a bootstrap would need hundreds of thousands.

    Args:
        x: scores, shape (runs of x, tasks).
        y: scores, shape (runs of y, tasks).

    Returns:
        Shape (1,).
    """
    higher, equal = x[:, None] > y[None], x[:, None] == y[None]
    return np.array([np.mean(higher + 0.5 * equal)])


def share_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of all runs on all tasks above each threshold: (runs, tasks), (thresholds,) -> (thresholds,)."""
    return np.mean(scores[..., None] > thresholds, axis=(0, 1))


def csv_rows(aggregates: Aggregates, settings: str) -> list[dict[str, object]]:
    """Every estimate with its interval, in long form."""
    same = {
        "settings": settings,
        "agent": aggregates.agent,
        "frame": aggregates.frame,
        "num_tasks": len(aggregates.tasks),
    }
    seeds = aggregates.num_seeds
    rows = [
        {**same, "statistic": "iqm", "variant": x, "num_seeds": seeds[x], **interval._asdict()}
        for x, interval in aggregates.iqm.items()
    ]
    rows += [
        {
            **same,
            "statistic": "probability_of_improvement",
            "variant": x,
            "than": y,
            "num_seeds": seeds[x],
            **interval._asdict(),
        }
        for (x, y), interval in aggregates.improvement.items()
    ]
    return rows + [
        {**same, "statistic": "profile", "variant": x, "num_seeds": seeds[x], "threshold": round(float(threshold), 4),
         **dict(zip(("value", "low", "high"), map(float, column), strict=True))}
        for x, bands in aggregates.profiles.items()
        for threshold, column in zip(aggregates.thresholds, bands.T, strict=True)
    ]  # fmt: skip


def table(aggregates: Aggregates, settings: str, name: str) -> Table:
    """Interquartile means and probabilities of improvement, with their intervals."""

    def cells(interval: Interval) -> tuple[str, str]:
        return number(interval.value, 3), f"{number(interval.low, 3)} to {number(interval.high, 3)}"

    lines = [("interquartile mean", x, str(aggregates.num_seeds[x]), *cells(i)) for x, i in aggregates.iqm.items()]
    lines += [("probability", f"{x} above {y}", ABSENT, *cells(i)) for (x, y), i in aggregates.improvement.items()]
    tasks = aggregates.tasks
    named = f"{len(tasks)} tasks: {', '.join(tasks)}" if len(tasks) > 1 else f"one task, {tasks[0]}"
    note = f"{agent_title(aggregates.agent)}, {settings}, at {frames(aggregates.frame)} frames; {named}."
    return Table(name, ("statistic", "variant", "seeds", "value", "95 % interval"), lines, [note])
