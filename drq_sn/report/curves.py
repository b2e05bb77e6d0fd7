"""Curves over frames: seed averages with their standard errors, one panel per task or quantity."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from drq_sn.report.published import RELEASED_HEAD, ReleasedPoint
from drq_sn.report.style import (
    ABOVE,
    BELOW,
    COLUMN,
    CROSS,
    GREY,
    NORMAL,
    PAGE,
    RELEASED,
    SMALL,
    THIN,
    Style,
    add_legend,
    create_canvas,
    escape_math,
    line_styles,
    mark_empty,
)
from drq_sn.report.types import FloatArray, Series
from drq_sn.runs.progress import format_count

FULL_SCALE = (0.0, 1000.0)  # of a return in the control suite
MARGIN = 25.0
MAX_COLUMNS = 5
TITLE_CHARACTERS = 17  # per inch
ROW_HEIGHT = 0.025  # between rows of marks at the edge of a panel, as a share of it
MOST_MARKS = 0.5  # share of a panel that they take at most
MAX_MARKED = 25  # curves with more points mark only lone ones
BAND, THIN_LINE = "band: ± one standard error over seeds", "thin: not every seed has a value there"
DIVERGED, CARRIED = "diverged", "diverged; its last evaluation is carried forward"
BELOW_AXIS, NOT_FINITE = "zero or negative, below a log axis", "infinite or NaN"
RELEASED_CURVE = f"released by the agent's authors ({RELEASED_HEAD}), mean ± sd"

Groups = Mapping[str, Sequence[Series]]
"""Label of a curve -> one series per seed."""


class Curve(NamedTuple):
    """Seed average, its band of one standard error (NaN for one seed) and the number of seeds; shapes (frames,)."""

    frames: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    num_seeds: FloatArray


@dataclass(frozen=True)
class Panel:
    """One panel."""

    title: str  # above it
    groups: Groups  # its curves
    log: bool = False  # logarithmic axis; seed averages are then geometric
    is_return: bool = False  # whether the axis is 0 to 1000 where that fits
    released: Sequence[ReleasedPoint] = ()  # points of the original authors


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, sample sd / sqrt(n); NaN where there are too few values or one is not finite."""
    if not values or not all(map(math.isfinite, values)):
        return math.nan, math.nan
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def average(series: Sequence[Series], last: float = math.inf, log: bool = False) -> Curve:
    """Seed average at every frame up to `last` that one of `series` has, those without a finite value included.

    Args:
        series: one per seed.
        last: end of the axis, to which the last values of diverged runs are carried forward.
        log: average logarithms; the mean is geometric.
    """
    frames = {frame for each in series for frame in (*each.values, *each.below, *each.missing) if frame <= last}
    if frames and math.isfinite(last) and any(each.value_at(last) is not None for each in series):
        frames.add(last)
    points = [(frame, *_average_at(series, frame, log)) for frame in sorted(frames)]
    return Curve(*np.array(points, dtype=float).reshape(-1, 5).T)


def _average_at(series: Sequence[Series], frame: float, log: bool) -> tuple[float, float, float, int]:
    values = [value for each in series if (value := each.value_at(frame)) is not None]
    mean, error = mean_and_error([math.log(value) for value in values] if log else values)
    mean, low, high = np.exp([mean, mean - error, mean + error]) if log else (mean, mean - error, mean + error)
    return mean, low, high, len(values)


def draw(
    panels: Sequence[Panel],
    last: float,
    y_label: str,
    columns: int | None = None,
    x_label: str = "frames",
    x_ticks: Sequence[float] | None = None,
) -> Any:
    """The matplotlib figure: axes in the order of `panels`, a legend of all curves and marks above.

    Args:
        panels: one or more.
        last: end of the horizontal axis of all panels; 1 if it is 0.
        y_label: at the left of the figure.
        columns: panels side by side; by their number if None.
        x_label: below the figure.
        x_ticks: matplotlib's choice if None.
    """
    from matplotlib.ticker import EngFormatter

    last = last or 1.0
    columns = columns or max(3, math.ceil(math.sqrt(len(panels))) + (len(panels) > 6))
    columns = min(MAX_COLUMNS, len(panels), columns)
    rows, width = math.ceil(len(panels) / columns), COLUMN if columns == 1 else PAGE
    styles = line_styles(list(dict.fromkeys(label for panel in panels for label in panel.groups)))
    height = rows * (0.68 * width / columns + 0.2) + 0.5
    figure = create_canvas(width, height)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    marks: dict[str, Any] = {}
    for number, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
        title = textwrap.fill(panel.title, int(TITLE_CHARACTERS * width / columns), break_long_words=False)
        axes.set_title(escape_math(title), fontsize=NORMAL)
        axes.set_xlim(-0.02 * last, 1.02 * last)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=SMALL, which="both")
        marks |= _draw_panel(axes, panel, styles, last)
        if x_ticks is not None:
            axes.set_xticks(x_ticks, [f"{tick:g}" for tick in x_ticks])
        axes.tick_params(labelbottom=number + columns >= len(panels))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    add_legend(figure, _label_curves(panels, styles) | marks)
    figure.supxlabel(x_label, fontsize=NORMAL)
    figure.supylabel(y_label, fontsize=NORMAL, y=0.5 * height / figure.get_figheight())
    return figure


def _draw_panel(axes: Any, panel: Panel, styles: Mapping[str, Style], last: float) -> dict[str, Any]:
    """Draw the curves of `panel`; returns what is drawn besides lines, for the legend."""
    from matplotlib.lines import Line2D

    curves = {label: average(series, last, panel.log) for label, series in panel.groups.items()}
    released = [point for point in panel.released if point.frame <= last]
    means = np.array([*(mean for curve in curves.values() for mean in curve.mean), *(point.mean for point in released)])
    if np.isnan(means).all():
        mark_empty(axes, "no data")
        return {}
    marks: dict[str, Any] = {}
    if panel.log:
        axes.set_yscale("log")
        if np.nanmin(means) == np.nanmax(means):  # matplotlib warns of some single values
            axes.set_ylim(np.nanmin(means) / 10, np.nanmax(means) * 10)
    if released:
        frames, mean, sd = np.array([point[:3] for point in released]).T
        axes.errorbar(frames, mean, sd, **RELEASED, elinewidth=0.6, zorder=1.5)
        marks[RELEASED_CURVE] = Line2D([], [], **RELEASED)
    for label, curve in curves.items():
        series, color = panel.groups[label], styles[label]["color"]
        marks |= _draw_curve(axes, curve, len(series), styles[label])
        for frame, value in _crosses(series, last):
            axes.plot(frame, value, color=color, **CROSS, zorder=5)
            name = CARRIED if any(each.carried for each in series) else DIVERGED
            marks[name] = Line2D([], [], color=GREY, **CROSS)
    marks |= _draw_edges(axes, panel, styles, last)
    if panel.is_return and np.all((means >= FULL_SCALE[0]) & (means <= FULL_SCALE[1])):
        axes.set(ylim=(FULL_SCALE[0] - MARGIN, FULL_SCALE[1] + MARGIN), yticks=np.linspace(*FULL_SCALE, 5))
    return marks


def _draw_edges(axes: Any, panel: Panel, styles: Mapping[str, Style], last: float) -> dict[str, Any]:
    """Mark what cannot be drawn at the edge where it lies, one row per curve; returns the marks, for the legend."""
    marks: dict[str, Any] = {}
    for name, kind, mark in ((BELOW_AXIS, "below", BELOW), (NOT_FINITE, "missing", ABOVE)):
        rows = {label: sorted({f for each in series for f in getattr(each, kind) if f <= last})
                for label, series in panel.groups.items()}  # fmt: skip
        if rows := {label: frames for label, frames in rows.items() if frames}:
            marks[name] = _draw_rows(axes, rows, styles, mark, at_top=mark is ABOVE)
    return marks


def _draw_rows(
    axes: Any, rows: Mapping[str, Sequence[float]], styles: Mapping[str, Style], mark: Style, at_top: bool
) -> Any:
    """Draw one row of marks per label at the bottom or top of a panel, which grows by them; returns the handle."""
    from matplotlib.lines import Line2D

    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    step = min(ROW_HEIGHT, MOST_MARKS / (len(rows) + 1))
    for row, (label, frames) in enumerate(rows.items(), start=1):
        height = 1 - step * row if at_top else step * row  # share of the panel
        place = {"color": styles[label]["color"], "transform": axes.get_xaxis_transform()}
        axes.plot(frames, [height] * len(frames), **mark, **place)
    share = step * (len(rows) + 1)
    room = (high - low) * share / (1 - share)
    axes.set_ylim(scale.inverted().transform([low - room * (not at_top), high + room * at_top]))
    return Line2D([], [], color=GREY, **mark)


def _draw_curve(axes: Any, curve: Curve, num_runs: int, style: Style) -> dict[str, Any]:
    """A line with its band, thin between points where fewer than `num_runs` seeds have a value."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks: dict[str, Any] = {}
    partial = curve.num_seeds < num_runs
    missing = np.isnan(np.concatenate([[np.nan], curve.mean, [np.nan]]))
    marked = missing[:-2] & missing[2:] if len(curve.frames) > MAX_MARKED else np.ones(len(curve.frames), bool)
    axes.plot(curve.frames, np.where(partial, np.nan, curve.mean), **style, markevery=marked, zorder=3)
    if partial.any():
        near_partial = partial.copy()  # neighbors included, which connects both lines
        near_partial[1:] |= partial[:-1]
        near_partial[:-1] |= partial[1:]
        axes.plot(
            curve.frames, np.where(near_partial, curve.mean, np.nan), **{**style, **THIN}, markevery=marked, zorder=2.5
        )
        marks[THIN_LINE] = Line2D([], [], color=GREY, **THIN)
    if np.isfinite(curve.low).any():
        axes.fill_between(curve.frames, curve.low, curve.high, color=style["color"], alpha=0.15, linewidth=0)
        marks[BAND] = Patch(color=GREY, alpha=0.25, linewidth=0)
    return marks


def _crosses(series: Sequence[Series], last: float) -> list[tuple[float, float]]:
    """Where runs diverged, at the height of their last values; none beyond the end of the axis."""
    diverged = [(each.diverged_at, each.values) for each in series if each.diverged_at is not None and each.values]
    places = [(max(frame, *values), values[max(values)]) for frame, values in diverged]
    return [(frame, value) for frame, value in places if frame <= last]


def _label_curves(panels: Sequence[Panel], styles: Mapping[str, Style]) -> dict[str, Any]:
    """Handles of all curves by labels such as `mlp2 (8 to 10 seeds, 1 diverged)`: seeds per panel."""
    from matplotlib.lines import Line2D

    handles = {}
    for label, style in styles.items():
        groups = [panel.groups[label] for panel in panels if label in panel.groups]
        fewest, most = min(map(len, groups)), max(map(len, groups))
        seeds = (f"{fewest} to " if fewest < most else "") + format_count(most, "seed")
        diverged = max(sum(each.diverged_at is not None for each in series) for series in groups)
        handles[f"{label} ({seeds}{f', {diverged} diverged' if diverged else ''})"] = Line2D([], [], **style)
    return handles
