"""Curves over frames: seed averages with their standard errors, one panel per task or quantity."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from drq_sn.report.style import (
    BELOW,
    CROSS,
    GREY,
    NORMAL,
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
from drq_sn.report.types import FloatArray, ReleasedPoint, Series
from drq_sn.runs.progress import format_count

FULL_SCALE = (0.0, 1000.0)  # of a return in the control suite
MARGIN = 25.0
WIDTHS = (4.6, 8.0, 9.5, 10.5, 11.5)  # inches, of a figure with one column of panels, two, ...
BELOW_HEIGHT = 0.025  # between the rows of marks below a log axis, as a share of the panel
MAX_MARKED = 25  # curves with more points mark only lone ones
MANY_COLUMNS = 4  # panels too narrow for more than three ticks
MILLION = 1e6
LEGEND = {
    "band": "band: ± one standard error over seeds",
    "thin": "thin: not every seed has a value there",
    "cross": "diverged; its last evaluation is carried forward",
    "below": "zero or negative, below a log axis",
    "released": "released by the agent's authors, mean ± sd",
}

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
    """One panel.

    Attributes:
        title: above it.
        groups: its curves.
        log: logarithmic axis; seed averages are then geometric.
        is_return: whether the axis is 0 to 1000 where that fits.
        released: points of the original authors.
    """

    title: str
    groups: Groups
    log: bool = False
    is_return: bool = False
    released: Sequence[ReleasedPoint] = ()


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of all panels.

    Attributes:
        last: its end.
        label: below the figure; None for frames.
        ticks: where they are; None for matplotlib's choice.
    """

    last: float
    label: str | None = None
    ticks: Sequence[float] | None = None

    @property
    def unit(self) -> float:
        """What one on the axis is."""
        return 1.0 if self.label else MILLION if self.last >= MILLION else 1000.0

    @property
    def title(self) -> str:
        """Its label."""
        return self.label or ("million frames" if self.last >= MILLION else "thousand frames")


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, sample sd / sqrt(n); NaN where there are too few values or one is NaN."""
    if not values or any(map(math.isnan, values)):
        return math.nan, math.nan
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def average(series: Sequence[Series], last: float = math.inf, log: bool = False) -> Curve:
    """Seed average at every frame up to `last` that one of `series` has, gaps included.

    Args:
        series: one per seed.
        last: end of the axis, to which the last values of diverged runs are carried forward.
        log: average logarithms; the mean is geometric.
    """
    frames = {frame for each in series for frame in (*each.values, *each.gaps) if frame <= last}
    if frames and math.isfinite(last) and any(each.value_at(last) is not None for each in series):
        frames.add(last)
    points = [(frame, *_average_at(series, frame, log)) for frame in sorted(frames)]
    return Curve(*np.array(points, dtype=float).reshape(-1, 5).T)


def _average_at(series: Sequence[Series], frame: float, log: bool) -> tuple[float, float, float, int]:
    values = [value for each in series if (value := each.value_at(frame)) is not None]
    mean, error = mean_and_error([math.log(value) for value in values] if log else values)
    mean, low, high = np.exp([mean, mean - error, mean + error]) if log else (mean, mean - error, mean + error)
    return mean, low, high, len(values)


def draw(panels: Sequence[Panel], axis: Axis, y_label: str, columns: int | None = None) -> Any:
    """The matplotlib figure: axes in the order of `panels`, a legend of all curves above.

    Args:
        panels: without any, the figure is empty.
        axis: of all panels.
        y_label: at the left of the figure.
        columns: panels side by side; by their number if None.
    """
    columns = columns or math.ceil(math.sqrt(len(panels))) + (len(panels) > 6)
    columns = max(1, min(len(WIDTHS), len(panels), columns))
    rows, side = max(1, math.ceil(len(panels) / columns)), WIDTHS[columns - 1] / columns
    styles = line_styles(list(dict.fromkeys(label for panel in panels for label in panel.groups)))
    figure = create_canvas(WIDTHS[columns - 1], rows * (0.68 * side + 0.3) + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, styles, axis)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    _label_axes(figure, grid, len(panels), axis)
    figure.supylabel(y_label, fontsize=NORMAL)
    _add_legend(figure, panels, styles, axis)
    return figure


def _draw_panel(axes: Any, panel: Panel, styles: Mapping[str, Style], axis: Axis) -> None:
    axes.set_title(escape_math(panel.title), fontsize=NORMAL)
    axes.set_xlim(-0.02 * axis.last / axis.unit, 1.02 * axis.last / axis.unit)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=SMALL, which="both")
    curves = {label: average(series, axis.last, panel.log) for label, series in panel.groups.items()}
    released = [point for point in panel.released if point.frame <= axis.last]
    means = np.array([*(mean for curve in curves.values() for mean in curve.mean), *(point.mean for point in released)])
    if np.isnan(means).all():
        mark_empty(axes, "no data")
        return
    if panel.log:
        axes.set_yscale("log")
        if np.nanmin(means) == np.nanmax(means):  # matplotlib warns of some single values
            axes.set_ylim(np.nanmin(means) / 10, np.nanmax(means) * 10)
    if released:
        frames, mean, sd = np.array([point[:3] for point in released]).T
        axes.errorbar(frames / axis.unit, mean, sd, **RELEASED, elinewidth=0.6, zorder=1.5)
    for row, (label, curve) in enumerate(curves.items(), start=1):
        series, color = panel.groups[label], styles[label]["color"]
        _draw_curve(axes, curve, len(series), styles[label], axis.unit)
        for frame, value in _crosses(series, axis.last):
            axes.plot(frame / axis.unit, value, color=color, **CROSS, zorder=5)
        gaps = sorted({frame / axis.unit for each in series for frame in each.gaps if frame <= axis.last})
        place = {"color": color, "transform": axes.get_xaxis_transform()}  # heights are shares of the panel
        axes.plot(gaps, [BELOW_HEIGHT * row] * len(gaps), **BELOW, **place)
    if panel.is_return and np.all((means >= FULL_SCALE[0]) & (means <= FULL_SCALE[1])):
        axes.set(ylim=(FULL_SCALE[0] - MARGIN, FULL_SCALE[1] + MARGIN), yticks=np.linspace(*FULL_SCALE, 5))


def _draw_curve(axes: Any, curve: Curve, num_runs: int, style: Style, unit: float) -> None:
    """A line with its band, thin between points where fewer than `num_runs` seeds have a value."""
    frames, partial = curve.frames / unit, curve.num_seeds < num_runs
    near_partial = partial.copy()
    near_partial[1:] |= partial[:-1]
    near_partial[:-1] |= partial[1:]
    missing = np.isnan(np.concatenate([[np.nan], curve.mean, [np.nan]]))
    marked = missing[:-2] & missing[2:] if len(frames) > MAX_MARKED else np.ones(len(frames), bool)
    mark: Style = {"marker": "o", "markersize": 3, "markevery": marked}
    axes.plot(frames, np.where(partial, np.nan, curve.mean), **style, **mark, zorder=3)
    if partial.any():
        axes.plot(frames, np.where(near_partial, curve.mean, np.nan), **{**style, **THIN}, **mark, zorder=2.5)
    axes.fill_between(frames, curve.low, curve.high, color=style["color"], alpha=0.15, linewidth=0)


def _crosses(series: Sequence[Series], last: float) -> list[tuple[float, float]]:
    """Where runs diverged, at the height of their last values; none beyond the end of the axis."""
    diverged = [(each.diverged_at, each.values) for each in series if each.diverged_at is not None and each.values]
    places = [(max(frame, *values), values[max(values)]) for frame, values in diverged]
    return [(frame, value) for frame, value in places if frame <= last]


def _label_axes(figure: Any, grid: Any, num_panels: int, axis: Axis) -> None:
    """The horizontal axis once per column, and vertical ones left of panels whose scale is their own."""
    columns = grid.shape[1]
    ticks = np.linspace(0, axis.last / axis.unit, 3) if columns >= MANY_COLUMNS else axis.ticks
    for number, axes in enumerate(grid.flat[:num_panels]):
        if ticks is not None and axes.lines:
            axes.set_xticks(ticks)
        axes.tick_params(labelbottom=number + columns >= num_panels)
        same_as_left = number % columns > 0 and axes.get_ylim() == grid.flat[number - 1].get_ylim()
        axes.tick_params(labelleft=not same_as_left)
    figure.supxlabel(axis.title, fontsize=NORMAL)


def _add_legend(figure: Any, panels: Sequence[Panel], styles: Mapping[str, Style], axis: Axis) -> None:
    """Every curve with its seeds, and the marks that are drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    drawn = [(average(s, axis.last, panel.log), s) for panel in panels for s in panel.groups.values()]
    marks = {
        "band": (Patch(color=GREY, alpha=0.25, linewidth=0), any(np.isfinite(c.low).any() for c, _ in drawn)),
        "thin": (Line2D([], [], color=GREY, **THIN), any((c.num_seeds < len(s)).any() for c, s in drawn)),
        "cross": (Line2D([], [], color=GREY, **CROSS), any(_crosses(s, axis.last) for _, s in drawn)),
        "below": (Line2D([], [], color=GREY, **BELOW), any(each.gaps for _, s in drawn for each in s)),
        "released": (
            Line2D([], [], **RELEASED),
            any(point.frame <= axis.last for panel in panels for point in panel.released),
        ),
    }
    handles: dict[str, Any] = {
        f"{label} ({_count_seeds(panels, label)})": Line2D([], [], **style) for label, style in styles.items()
    }
    add_legend(figure, handles | {LEGEND[key]: handle for key, (handle, is_drawn) in marks.items() if is_drawn})


def _count_seeds(panels: Sequence[Panel], label: str) -> str:
    """`10 seeds`, `8 to 10 seeds, 1 diverged`: per panel, at most."""
    groups = [panel.groups[label] for panel in panels if label in panel.groups]
    numbers = sorted({len(series) for series in groups})
    seeds = format_count(numbers[-1], "seed")
    diverged = max(sum(each.diverged_at is not None for each in series) for series in groups)
    return (f"{numbers[0]} to {seeds}" if len(numbers) > 1 else seeds) + (f", {diverged} diverged" if diverged else "")
