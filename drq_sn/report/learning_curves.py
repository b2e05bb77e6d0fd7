"""Learning curves: the mean return of each variant over its seeds, a panel per task (Bjorck et al. 2021, Figures 1, 2, 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from drq_sn.report.curves import mean_and_error
from drq_sn.report.dynamics_figure import CROSS, THIN, Style, split
from drq_sn.report.style import (
    GREY,
    NORMAL,
    SMALL,
    add_legend,
    canvas,
    counted,
    in_frames,
    looks,
    names,
    say_nothing_there,
)
from drq_sn.report.types import ReleasedPoint, ScoredRun, Variant

Panel = Mapping[str, Sequence[ScoredRun]]
"""Name of a variant -> its runs on one task."""

FULL_SCALE = (0.0, 1000.0)  # of a return in the control suite
MARGIN = 25.0
WIDTHS = (4.6, 8.0, 9.5, 10.5, 11.5)  # of a figure with one column of panels, two, ... in inches
FEW = 15  # points that are shown one by one
MILLION = 1e6
MARK: Style = {"marker": "s", "markersize": 2.2, "color": "#999999", "linestyle": "", "elinewidth": 0.6}
MANY_COLUMNS = 4  # of panels, too narrow for more than three numbers on their axis
LEGEND = {
    "band": "band: ± one standard error over seeds",
    "thin": "thin: not every seed has a score there",
    "cross": "crash; its last score is carried forward",
    "released": "released by the agent's authors, mean ± sd",
}


class SeedCurve(NamedTuple):
    """Mean score, its standard error (NaN for one seed) and how many seeds have one, all of shape (frames,)."""

    frames: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    num_seeds: np.ndarray


def seed_curve(runs: Sequence[ScoredRun], last_frame: float) -> SeedCurve:
    """Scores at every frame up to `last_frame` that one of `runs` was evaluated at; a crashed run has one at `last_frame`."""
    frames = {frame for run in runs for frame in run.evaluations if frame <= last_frame}
    if frames and any(run.crashed for run in runs):
        frames.add(last_frame)
    found = []
    for frame in sorted(frames):
        scores = [score for run in runs if (score := run.score(frame)) is not None]
        found.append((frame, *mean_and_error(scores), len(scores)))
    found = [point for point in found if point[-1]]
    return SeedCurve(*np.array(found, dtype=float).reshape(-1, 4).T)


def panels_of(runs: Sequence[ScoredRun], tasks: Sequence[str], variants: Sequence[Variant]) -> dict[str, Panel]:
    """Task -> its panel; variants without a run there are left out."""
    called = names(variants)
    return {
        task: {
            name: own
            for variant, name in called.items()
            if (own := [run for run in runs if run.run.task == task and run.variant == variant])
        }
        for task in tasks
    }


def crash_place(run: ScoredRun, last_frame: float) -> tuple[float, float] | None:
    """Frame and score of the cross: where learning ended, at the height of the last evaluation; None outside the figure."""
    if not run.crashed or not run.evaluations:
        return None
    frame, score = list(run.evaluations.items())[-1]
    frame = max(frame, run.run.last_frame)
    return (frame, score) if frame <= last_frame else None


def draw(panels: Mapping[str, Panel], released: Mapping[str, Sequence[ReleasedPoint]], last_frame: float) -> Any:
    """The matplotlib figure: axes in the order of `panels`.

    Args:
        panels: task -> name of a variant -> runs.
        released: task -> the original authors' points.
        last_frame: where the axis ends.
    """
    columns = max(1, min(len(WIDTHS), math.ceil(math.sqrt(len(panels))) + (len(panels) > 6)))
    rows = max(1, math.ceil(len(panels) / columns))
    side = WIDTHS[columns - 1] / columns
    styles = looks(list(dict.fromkeys(name for panel in panels.values() for name in panel)))
    figure = canvas(WIDTHS[columns - 1], rows * (0.68 * side + 0.3) + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (task, panel) in zip(grid.flat, panels.items(), strict=False):
        axes.set_title(task, fontsize=NORMAL, parse_math=False)
        points = [point for point in released.get(task, ()) if point.frame <= last_frame]
        _draw_panel(axes, panel, styles, points, last_frame)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    _label_outside(figure, grid, len(panels), last_frame)
    _add_legend(figure, panels, styles, released, last_frame)
    return figure


def _unit(last_frame: float) -> float:
    return MILLION if last_frame >= MILLION else 1000.0


def _draw_panel(
    axes: Any, panel: Panel, styles: Mapping[str, Style], points: Sequence[ReleasedPoint], last_frame: float
) -> None:
    unit = _unit(last_frame)
    curves = {name: seed_curve(runs, last_frame) for name, runs in panel.items()}
    if points:
        frames, means, sds = np.array([point[:3] for point in points]).T
        axes.errorbar(frames / unit, means, sds, **MARK, zorder=1.5)
    for name, curve in curves.items():
        _draw_curve(axes, curve, len(panel[name]), styles[name], unit)
        places = [place for run in panel[name] if (place := crash_place(run, last_frame))]
        for frame, score in places:
            axes.plot(frame / unit, score, color=styles[name]["color"], **{**CROSS, "markersize": 7}, zorder=5)
    shown = np.concatenate([*(curve.mean for curve in curves.values()), [point.mean for point in points]])
    if not shown.size:
        say_nothing_there(axes, "no runs")
    if np.all((shown >= FULL_SCALE[0]) & (shown <= FULL_SCALE[1])):
        axes.set(ylim=(FULL_SCALE[0] - MARGIN, FULL_SCALE[1] + MARGIN), yticks=np.linspace(*FULL_SCALE, 5))
    axes.set_xlim(-0.02 * last_frame / unit, 1.02 * last_frame / unit)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=SMALL)


def _draw_curve(axes: Any, curve: SeedCurve, num_runs: int, look: Style, unit: float) -> None:
    """Thin and pale between points where not every run has a score, else as the variant looks."""
    frames, partial = curve.frames / unit, curve.num_seeds < num_runs
    whole, thin = split(curve.mean, partial)
    mark = {"marker": "o", "markersize": 3} if len(frames) <= FEW else {}
    axes.plot(frames, whole, **look, **mark, zorder=3)
    if partial.any():
        axes.plot(frames, thin, **{**look, **THIN}, **mark, zorder=2.5)
    axes.fill_between(
        frames, curve.mean - curve.error, curve.mean + curve.error, color=look["color"], alpha=0.15, linewidth=0
    )


def _label_outside(figure: Any, grid: Any, num_panels: int, last_frame: float) -> None:
    """Axes named once; numbers at the lowest panel of every column, and left of panels whose scale is their own."""
    columns = grid.shape[1]
    for number, axes in enumerate(grid.flat[:num_panels]):
        if columns >= MANY_COLUMNS:
            axes.set_xticks(np.linspace(0, last_frame / _unit(last_frame), 3))
        axes.tick_params(labelbottom=number + columns >= num_panels)
        same_as_left = number % columns > 0 and axes.get_ylim() == grid.flat[number - 1].get_ylim()
        axes.tick_params(labelleft=not same_as_left)
    figure.supxlabel("million frames" if last_frame >= MILLION else "thousand frames", fontsize=NORMAL)
    figure.supylabel("evaluation return", fontsize=NORMAL)


def _add_legend(
    figure: Any,
    panels: Mapping[str, Panel],
    styles: Mapping[str, Style],
    released: Mapping[str, Sequence[ReleasedPoint]],
    last_frame: float,
) -> None:
    """Every variant with its seeds, and what else is drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], **look) for look in styles.values()]
    labels = [f"{name} ({_seeds(panels, name)})" for name in styles]
    every = [runs for panel in panels.values() for runs in panel.values()]
    curves = [(seed_curve(runs, last_frame), len(runs)) for runs in every]
    extra = {
        "band": (
            any(np.isfinite(curve.error).any() for curve, _ in curves),
            Patch(color=GREY, alpha=0.25, linewidth=0),
        ),
        "thin": (any((curve.num_seeds < number).any() for curve, number in curves), Line2D([], [], color=GREY, **THIN)),
        "cross": (
            any(crash_place(run, last_frame) for runs in every for run in runs),
            Line2D([], [], color=GREY, **CROSS),
        ),
        "released": (
            any(point.frame <= last_frame for task in panels for point in released.get(task, ())),
            Line2D([], [], **{key: value for key, value in MARK.items() if key != "elinewidth"}),
        ),
    }
    present = {LEGEND[key]: handle for key, (drawn, handle) in extra.items() if drawn}
    add_legend(figure, [*handles, *present.values()], [*labels, *present])


def _seeds(panels: Mapping[str, Panel], name: str) -> str:
    """`10 seeds`, `8 to 10 seeds, 1 crashed`: per task."""
    numbers = sorted({len(panel[name]) for panel in panels.values() if name in panel})
    crashed = sum(run.crashed for panel in panels.values() for run in panel.get(name, ()))
    seeds = counted(numbers[-1], "seed")
    return (f"{numbers[0]} to {seeds}" if len(numbers) > 1 else seeds) + (f", {crashed} crashed" if crashed else "")


def describe(panels: Mapping[str, Panel], released: Mapping[str, Sequence[ReleasedPoint]], last_frame: float) -> str:
    """The figure in words: what it is on the first line, then a line with the final numbers of every task."""
    drawn = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    lines = [
        f"Learning curves of {', '.join(drawn) or 'nothing'}: mean evaluation return over seeds, ± one standard error."
    ]
    lines[0] += f" Numbers are those at {in_frames(last_frame)} where nothing else is said."
    for task, panel in panels.items():
        words = [last_point(name, runs, last_frame) for name, runs in panel.items()]
        points = [point for point in released.get(task, ()) if point.frame <= last_frame]
        if points:
            frame, mean, sd, number = points[-1]
            words.append(f"released {mean:.0f} ± {sd:.0f} sd ({counted(number, 'seed')}{_where(frame, last_frame)})")
        lines.append(f"{task}: {', '.join(words) or 'no runs'}.")
    return "\n".join(lines)


def last_point(name: str, runs: Sequence[ScoredRun], last_frame: float) -> str:
    """`mlp2 812 ± 13 (9 of 10 seeds, 1 crashed)`; the frame is added where it is not the last."""
    curve = seed_curve(runs, last_frame)
    if not curve.frames.size:
        return f"{name} without an evaluation"
    frame, mean, error, number = (float(column[-1]) for column in curve)
    crashed = sum(run.crashed for run in runs)
    seeds = counted(len(runs), "seed") if number == len(runs) else f"{number:.0f} of {counted(len(runs), 'seed')}"
    words = seeds + (f", {crashed} crashed" if crashed else "") + _where(frame, last_frame)
    return f"{name} {mean:.0f}{'' if math.isnan(error) else f' ± {error:.0f}'} ({words})"


def _where(frame: float, last_frame: float) -> str:
    return "" if frame == last_frame else f", at {in_frames(frame)}"
