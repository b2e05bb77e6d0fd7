"""Aggregate statistics across tasks by rliable (Agarwal et al. 2021), as table, CSV and figure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drq_sn.report.scores import common_frame, fill_cell
from drq_sn.report.style import (
    NORMAL,
    PAGE,
    SMALL,
    add_legend,
    create_canvas,
    escape_math,
    line_styles,
    mark_empty,
    save_figure,
)
from drq_sn.report.table_formats import NO_VALUE, format_frame, format_number
from drq_sn.report.types import Figure, FloatArray, Interval, Row, Run, Table, agent_title
from drq_sn.report.variants import sort_variants
from drq_sn.runs.progress import format_count

MAX_RETURN = 1000.0  # of an episode in the suite
THRESHOLDS = np.linspace(0.0, 1.0, 101)
FIELDS = ("settings", "agent", "frame", "statistic", "variant", "than", "threshold", "value", "low", "high",
          "num_tasks", "num_seeds")  # fmt: skip
ROW_HEIGHT = 0.16  # inches, of a line with a dot

Scores = Mapping[str, FloatArray]
"""Label of a variant -> scores, shape (runs, tasks)."""


@dataclass(frozen=True)
class Aggregates:
    """Statistics over all tasks of one agent; scores are returns / 1000."""

    agent: str  # name of the agent's option
    frame: float  # at which runs are compared
    tasks: tuple[str, ...]  # those with scores of every variant
    num_seeds: Mapping[str, int]  # label of a variant -> runs per task
    iqm: Mapping[str, Interval]  # label -> interquartile mean of the scores
    improvement: Mapping[tuple[str, str], Interval]  # labels (x, y) -> probability that x scores higher
    profiles: Mapping[str, FloatArray]  # label -> share of runs above `THRESHOLDS`: value, low, high; (3, thresholds)


def collect_scores(runs: Sequence[Run], frame: float) -> tuple[Scores, tuple[str, ...], list[str]]:
    """Scores of one agent's runs as rectangles, chosen such that a stray run excludes no others.

    Variants are compared if they are on at least half as many tasks as the one on most, on the tasks on which each of
    them has at least half as many seeds as its median over tasks.

    Returns:
        Scores; the tasks they have in common; one line about tasks, variants and seeds each that are left out.
    """
    variants, tasks = sort_variants(run.variant for run in runs), sorted({run.task for run in runs})
    cells = {v: {task: cell.scores for task in tasks if (cell := fill_cell(runs, task, v, frame)).scores}
             for v in variants}  # fmt: skip
    most = max(map(len, cells.values()), default=0)
    compared = [v for v in variants if cells[v] and len(cells[v]) >= most / 2]
    usual = {v: statistics.median(map(len, cells[v].values())) for v in compared}
    common = tuple(task for task in tasks if all(len(cells[v].get(task, ())) >= usual[v] / 2 for v in compared))
    at, notes = f"at frame {format_frame(frame)}", []
    if lost := ", ".join(task for task in tasks if task not in common):
        notes.append(f"tasks left out, where a variant has fewer than half its usual seeds {at}: {lost}")
    if late := "; ".join(v.label for v in variants if v not in compared):
        notes.append(f"variants left out, on fewer than half as many tasks as the one on most {at}: {late}")
    scores = {}
    for v in compared if common else []:
        least, most = (extreme(len(cells[v][task]) for task in common) for extreme in (min, max))
        scores[v.label] = np.array([cells[v][task][:least] for task in common]).T / MAX_RETURN
        if most > least:
            notes.append(f"{v.label}: {least} of up to {most} seeds are used, as many as every task has")
        if least == 1:
            notes.append(f"{v.label}: one seed per task says nothing about other seeds; ignore its intervals")
    return scores, common, notes


def aggregate(
    agent: str, runs: Sequence[Run], limit: float, frame: float | None, num_bootstrap: int, seed: int
) -> tuple[Aggregates | None, list[str]]:
    """Statistics over all common tasks of one agent's runs in one setting, and what is left out.

    Runs, each seed once, are compared at `frame`, or at the largest up to `limit` that any was evaluated at.

    Returns:
        None where no task has scores, and the reason in the notes.
    """
    at = common_frame(runs, limit) if frame is None else frame
    scores, tasks, notes = collect_scores(runs, at) if at is not None else ({}, (), [])
    if at is None or not scores:
        return None, [*notes, "no task has scores of every variant"]
    state = np.random.get_state()
    np.random.seed(seed)  # numpy's global generator is the only one that rliable uses
    try:
        iqm, improvement, profiles = _estimate(scores, num_bootstrap)
    finally:
        np.random.set_state(state)
    num_seeds = {label: len(matrix) for label, matrix in scores.items()}
    return Aggregates(agent, at, tasks, num_seeds, iqm, improvement, profiles), notes


def _estimate(
    scores: Scores, reps: int
) -> tuple[dict[str, Interval], dict[tuple[str, str], Interval], dict[str, FloatArray]]:
    from absl import logging
    from rliable import library, metrics  # slow to import

    logging.set_verbosity(logging.WARNING)  # silence a line per estimate

    def iqm(matrix: FloatArray) -> FloatArray:
        return np.array([metrics.aggregate_iqm(matrix)])

    def intervals(data: Mapping[Any, Any], statistic: Any) -> dict[Any, Interval]:
        values, bounds = library.get_interval_estimates(data, statistic, reps=reps) if data else ({}, {})
        return {key: Interval(float(values[key][0]), *map(float, bounds[key][:, 0])) for key in data}

    pairs = {(y, x): [scores[y], scores[x]] for x, y in itertools.combinations(scores, 2)}
    iqms, improvements = intervals(scores, iqm), intervals(pairs, probability_of_improvement)
    values, bounds = library.create_performance_profile(scores, THRESHOLDS, custom_profile_func=share_above, reps=reps)
    return iqms, improvements, {label: np.vstack([values[label], bounds[label]]) for label in scores}


def probability_of_improvement(x: FloatArray, y: FloatArray) -> FloatArray:
    """Probability that a run of x scores higher than one of y on the same task, a tie counted half; mean over tasks.

    Equals rliable's metric, without its statistical test per task, which is too slow for a bootstrap.

    Args:
        x: scores, shape (runs of x, tasks).
        y: scores, shape (runs of y, tasks).

    Returns:
        Shape (1,).
    """
    higher, equal = x[:, None] > y[None], x[:, None] == y[None]
    return np.array([np.mean(higher + 0.5 * equal)])


def share_above(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Share of all runs on all tasks above each threshold: (runs, tasks), (thresholds,) -> (thresholds,)."""
    return np.asarray(np.mean(scores[..., None] > thresholds, axis=(0, 1)))


def aggregates_rows(result: Aggregates, settings: str) -> list[Row]:
    """Every estimate with its interval, in long form."""
    shared = {"settings": settings, "agent": result.agent, "frame": result.frame, "num_tasks": len(result.tasks)}

    def row(statistic: str, variant: str, interval: Interval, **more: Any) -> Row:
        identity = {"statistic": statistic, "variant": variant, "num_seeds": result.num_seeds[variant]}
        return {**shared, **identity, **interval._asdict(), **more}

    return [
        *(row("iqm", x, interval) for x, interval in result.iqm.items()),
        *(row("probability_of_improvement", x, interval, than=y) for (x, y), interval in result.improvement.items()),
        *(
            row("profile", x, Interval(*map(float, column)), threshold=round(float(threshold), 4))
            for x, bands in result.profiles.items()
            for threshold, column in zip(THRESHOLDS, bands.T, strict=True)
        ),
    ]


def aggregates_table(results: Sequence[tuple[str, Aggregates]]) -> Table:
    """Interquartile means and probabilities of improvement of all agents and settings, with their intervals."""
    columns = ("agent", "settings", "frame", "statistic", "variant", "seeds", "value", "95 % interval")
    lines, notes, records = [], [], []
    for settings, result in results:
        where = (agent_title(result.agent), settings, format_frame(result.frame))
        named = [("interquartile mean", x, str(result.num_seeds[x]), i) for x, i in result.iqm.items()]
        named += [("probability", f"{x} above {y}", NO_VALUE, i) for (x, y), i in result.improvement.items()]
        for *names, interval in named:
            value, low, high = (format_number(number, 3) for number in interval)
            lines.append((*where, *names, value, f"{low} to {high}"))
        notes.append(f"{where[0]}, {settings}: {format_count(len(result.tasks), 'task')}: {', '.join(result.tasks)}.")
        records += aggregates_rows(result, settings)
    caption = "Interquartile means and probabilities of improvement, with 95 % bootstrap intervals."
    return Table("aggregates", columns, lines, notes, FIELDS, records, caption=caption)


def aggregates_figure(result: Aggregates, settings: str, name: str) -> Figure:
    """Interquartile means, probabilities of improvement and performance profiles, with 95 % confidence intervals."""
    tasks = f"{format_count(len(result.tasks), 'task')} at frame {format_frame(result.frame)}"
    where = f"{agent_title(result.agent)}, {settings}, {tasks}"
    alt = f"Aggregates over tasks ({where}): interquartile means, probabilities of improvement, performance profiles."
    return save_figure(name, alt, draw(result))


def draw(result: Aggregates) -> Any:
    """The matplotlib figure; its axes are the means, the improvements and the profiles."""
    from matplotlib.lines import Line2D

    num_lines = [max(2, len(result.iqm)), max(2, len(result.improvement))]
    figure = create_canvas(PAGE, max(ROW_HEIGHT * sum(num_lines) + 1.2, 2.4) + 0.3)
    panels = figure.subplot_mosaic([["means", "profiles"], ["improvements", "profiles"]], height_ratios=num_lines)
    styles = line_styles(list(result.num_seeds))
    pairs = {f"{better} > {worse}": interval for (better, worse), interval in result.improvement.items()}
    _draw_intervals(panels["means"], result.iqm, [styles[label]["color"] for label in result.iqm])
    _draw_intervals(panels["improvements"], pairs, [styles[better]["color"] for better, _ in result.improvement])
    panels["means"].set_title("interquartile mean of return / 1000", fontsize=NORMAL)
    panels["improvements"].set_title("probability of improvement", fontsize=NORMAL)
    _draw_profiles(panels["profiles"], result, styles)
    add_legend(figure, {f"{label} ({format_count(result.num_seeds[label], 'seed')} per task)": Line2D([], [], **style)
                        for label, style in styles.items()})  # fmt: skip
    return figure


def _draw_intervals(axes: Any, intervals: Mapping[str, Interval], colors: Sequence[str]) -> None:
    """One line per entry, downwards: a dot on its interval."""
    axes.tick_params(labelsize=SMALL)
    if not intervals:
        mark_empty(axes, "nothing to compare")
        return
    for row, ((value, low, high), color) in enumerate(zip(intervals.values(), colors, strict=True)):
        axes.errorbar(
            value, row, xerr=[[value - low], [high - value]], color=color, fmt="o", markersize=3, linewidth=1, capsize=2
        )
    axes.set(ylim=(len(intervals) - 0.4, -0.6), yticks=range(len(intervals)))
    axes.set_yticklabels(map(escape_math, intervals), fontsize=SMALL)
    axes.grid(alpha=0.3, axis="x")


def _draw_profiles(axes: Any, result: Aggregates, styles: Mapping[str, Any]) -> None:
    axes.set_title("performance profiles", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    for label, (value, low, high) in result.profiles.items():
        axes.plot(THRESHOLDS, value, **styles[label], markevery=20)
        axes.fill_between(THRESHOLDS, low, high, color=styles[label]["color"], alpha=0.15, linewidth=0)
    axes.set(ylim=(-0.02, 1.02))
    axes.set_xlabel("score: return / 1000", fontsize=NORMAL)
    axes.set_ylabel("share of runs above the score", fontsize=NORMAL)
    axes.grid(alpha=0.3)
