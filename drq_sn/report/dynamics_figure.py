"""A diagnosis as a table, CSV and two figures."""

from __future__ import annotations

import io
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drq_sn.report.curves import (
    FIGURE3,
    INSTRUMENTS,
    RETURN,
    Curve,
    Groups,
    Points,
    Quantity,
    average,
    go_on,
    points,
    shorten,
    table_rows,
)
from drq_sn.report.table_formats import aligned, csv_of
from drq_sn.runs.reader import CRASHED, Run

TABLE = "diagnosis.csv"
FIELDS = ("group", "seed", "frame", "quantity", "value")
# Okabe and Ito's colors, which the color-blind tell apart, without yellow; 7 and 4 have no common divisor: 28 pairs
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))
CROSS: dict[str, Any] = {"marker": "x", "markersize": 10, "markeredgewidth": 2.5, "linestyle": ""}
BELOW: dict[str, Any] = {"marker": "v", "markersize": 4, "markerfacecolor": "none", "linestyle": ""}
BELOW_HEIGHT = 0.025  # between the rows of several groups
FEW = 25  # points that are shown one by one
LEGEND_CHARACTERS = 16  # that fit on an inch
PAPER_COLUMNS, INSTRUMENT_COLUMNS = 2, 3

Style = dict[str, Any]
"""Keywords of a line."""

THIN: Style = {"linewidth": 0.9, "alpha": 0.55}  # where not every run has a value


def files(groups: Groups) -> dict[str, bytes]:
    """Every file of a diagnosis by name; `diagnosis.csv`, by which a diagnosis is known, comes first."""
    present = [q for q in INSTRUMENTS if any(points(run, q).values for runs in groups.values() for run in runs)]
    figure3 = draw(FIGURE3, groups, PAPER_COLUMNS)
    instruments = draw(present, groups, INSTRUMENT_COLUMNS)
    return {
        TABLE: _csv(groups),
        **{f"figure3.{kind}": data for kind, data in figure3.items()},
        **{f"instruments.{kind}": data for kind, data in instruments.items()},
    }


def _csv(groups: Groups) -> bytes:
    """What is drawn, run by run, in long form."""
    rows = [
        (label, run.seed, f"{frame:.0f}", quantity.name, value)
        for label, runs in groups.items()
        for run in runs
        for quantity in (*FIGURE3, *INSTRUMENTS)
        for frame, value in points(run, quantity).values.items()
    ]
    return csv_of([dict(zip(FIELDS, row, strict=True)) for row in rows], FIELDS)


def format_table(groups: Groups) -> str:
    """One line per group, then what was left out of the figures."""
    shared, labels = shorten(list(groups))
    header = ("", "seeds", "status", "last frame", "last return", "actor grad max", "critic grad max", "critic rank",
              "actor rank")  # fmt: skip
    lines = [
        (
            label,
            str(row["seeds"]),
            _counts(row["status"]),
            " to ".join(f"{frame:.0f}" for frame in sorted({min(row["frames"]), max(row["frames"])})),
            _number(row["return"][0]) + ("" if math.isnan(row["return"][1]) else f" ± {row['return'][1]:.2g}"),
            *(_number(row[f"largest_grad_norm/{name}"]) for name in ("actor", "critic")),
            *(_number(row[f"effective_rank/{name}"]) for name in ("critic", "actor")),
        )
        for label, row in zip(labels, table_rows(groups), strict=True)
    ]
    title = [shared] if len(labels) > 1 and shared else []
    return "\n".join([*title, aligned([header, *lines]), *_left_out(groups)])


def _left_out(groups: Groups) -> list[str]:
    lines = []
    for label, runs in groups.items():
        for quantity in (*FIGURE3, *INSTRUMENTS):
            counts: Counter[str] = sum((points(run, quantity).left_out for run in runs), Counter())
            lines += [f"{label}: {number} values of {quantity.name} left out, {why}" for why, number in counts.items()]
    return lines


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"


def draw(
    quantities: Sequence[Quantity],
    groups: Groups,
    num_columns: int,
    looks: Mapping[str, Style] | None = None,
    as_learning_curves: bool = False,
) -> dict[str, bytes]:
    """One panel per quantity over frames, with a legend of all groups below.

    Args:
        quantities: what is drawn; without any, the figure says that there is no data.
        groups: label -> runs.
        num_columns: panels side by side.
        looks: label -> style; the legend then names groups in full. Without, styles are by order, and names shortened.
        as_learning_curves: let the last return of a crashed run stand for all later ones, and draw thin where seeds are
            missing. Without, every mean is one of the seeds that have a value, however few.

    Returns:
        `png` and `svg` -> the file.
    """
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    styles = [looks[label] if looks is not None else style(number) for number, label in enumerate(groups)]
    num_rows = max(1, math.ceil(len(quantities) / num_columns))
    num_columns = min(num_columns, max(1, len(quantities)))
    size = (max(9.0, 4.6 * num_columns), 3.0 * num_rows + 0.6 + 0.2 * len(groups))
    figure, panels = plt.subplots(num_rows, num_columns, figsize=size, squeeze=False, layout="constrained")
    for axes, quantity in zip(panels.flat, quantities, strict=False):
        _draw_panel(axes, quantity, groups, styles, as_learning_curves)
    for axes in panels.flat[len(quantities) :]:
        axes.set_axis_off()
    if not quantities:
        _say_no_data(panels.flat[0], f"no data in {INSTRUMENTS[0].file}")
    _add_legend(
        figure, groups, styles, shorten(list(groups)) if looks is None else ("", list(groups)), as_learning_curves
    )
    images = save_images(figure)
    plt.close(figure)
    return images


def save_images(figure: Any) -> dict[str, bytes]:
    """`png` and `svg` -> the file; the same data are the same bytes."""
    import matplotlib

    images = {}
    with matplotlib.rc_context({"svg.hashsalt": "drq_sn"}):
        for kind, metadata in (("png", {}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=130, metadata=metadata)
            images[kind] = buffer.getvalue()
    return images


def style(number: int) -> Style:
    """Color and line of the curve with that number; 28 differ."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)], "linewidth": 1.6}


def _draw_panel(
    axes: Any, quantity: Quantity, groups: Groups, styles: Sequence[Style], as_learning_curves: bool
) -> None:
    axes.set_title(quantity.title, fontsize=10)
    taken = {label: [points(run, quantity) for run in runs] for label, runs in groups.items()}
    if not any(seed.values for seeds in taken.values() for seed in seeds):
        _say_no_data(axes, "no data")
        return
    if quantity.log:
        axes.set_yscale("log")
    end = max(frame for seeds in taken.values() for seed in seeds for frame in seed.values)
    for row, ((label, seeds), look) in enumerate(zip(taken.items(), styles, strict=True), 1):
        gaps: set[float] = set().union(*(s.gaps for s in seeds))
        values: Sequence[Mapping[float, float]] = [seed.values for seed in seeds]
        if as_learning_curves and quantity == RETURN:
            values = _after_crashes(groups[label], seeds, end)
        _draw_curve(axes, average(values, quantity.log, gaps), look, len(seeds) if as_learning_curves else 0)
        if quantity.log:
            height = [BELOW_HEIGHT * row] * len(gaps)  # of the panel, whatever its scale
            mark = {**BELOW, "color": look["color"], "transform": axes.get_xaxis_transform()}
            axes.plot([frame / 1000 for frame in sorted(gaps)], height, **mark)
        for run, seed in zip(groups[label], seeds, strict=True):
            if run.status == CRASHED and seed.values:
                frame, value = list(seed.values.items())[-1]
                axes.plot(frame / 1000, value, color=look["color"], **CROSS, zorder=5)
    axes.set_xlabel("thousand frames", fontsize=9)
    axes.set_ylabel("geometric mean of seeds" if quantity.log else "mean of seeds", fontsize=9)
    axes.tick_params(labelsize=8, which="both")
    axes.grid(alpha=0.3)


def _after_crashes(runs: Sequence[Run], seeds: Sequence[Points], end: float) -> list[dict[float, float]]:
    """Values of each of `seeds`; those of crashed `runs` go on at every frame that another one has, and to `end`."""
    frames = {end}.union(*(seed.values for seed in seeds))
    return [go_on(seed.values, frames if run.status == CRASHED else ()) for run, seed in zip(runs, seeds, strict=True)]


def split(mean: np.ndarray, partial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`mean` where every run has a value, and the stretches to and from points where not all have; NaN elsewhere."""
    reached = partial.copy()
    reached[1:] |= partial[:-1]
    reached[:-1] |= partial[1:]
    return np.where(partial, np.nan, mean), np.where(reached, mean, np.nan)


def _draw_curve(axes: Any, curve: Curve, look: Style, num_runs: int = 0) -> None:
    """A line with its band, thin where fewer than `num_runs` have a value; lone points, and all of few, are shown."""
    whole, thin = split(curve.mean, curve.num_seeds < num_runs)
    missing = np.isnan(np.concatenate([[np.nan], curve.mean, [np.nan]]))
    shown = missing[:-2] & missing[2:] if len(curve.frames) > FEW else np.ones(len(curve.frames), bool)
    for mean, own in ((whole, look), (thin, {**look, **THIN})):
        if own is look or not np.isnan(mean).all():
            axes.plot(curve.frames / 1000, mean, **own, marker="o", markersize=3, markevery=shown)
    axes.fill_between(curve.frames / 1000, curve.low, curve.high, color=look["color"], alpha=0.15, linewidth=0)


def _say_no_data(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, color="grey", ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def _add_legend(
    figure: Any, groups: Groups, styles: Sequence[Style], names: tuple[str, list[str]], as_learning_curves: bool
) -> None:
    """All groups below the panels, and above them what the labels share."""
    from matplotlib.lines import Line2D

    shared, short = names
    if not short:
        return
    labels = []
    for label, runs in zip(short, groups.values(), strict=True):
        crashed = sum(run.status == CRASHED for run in runs)
        seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
        labels.append(f"{label} ({seeds}{f', {crashed} crashed' if crashed else ''})".replace("$", r"\$"))
    if len(short) > 1 and shared:
        figure.suptitle(shared.replace("$", r"\$"), fontsize=10)
    handles = [Line2D([], [], **look) for look in styles]
    if any(run.status == CRASHED for runs in groups.values() for run in runs):
        handles.append(Line2D([], [], color="grey", **CROSS))
        labels.append("last point of a run that crashed" + ("; its return is carried forward" * as_learning_curves))
    if any(line.get_alpha() == THIN["alpha"] for axes in figure.axes for line in axes.lines):
        handles.append(Line2D([], [], color="grey", **THIN))
        labels.append("thin: not every seed has a value there")
    if _any_below(groups):
        handles.append(Line2D([], [], color="grey", **BELOW))
        labels.append("zero or negative, below a log axis")
    columns = max(1, min(len(labels), round(LEGEND_CHARACTERS * figure.get_figwidth()) // (max(map(len, labels)) + 8)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, handlelength=4, frameon=False)


def _any_below(groups: Groups) -> bool:
    every = [points(run, q) for q in (*FIGURE3, *INSTRUMENTS) if q.log for runs in groups.values() for run in runs]
    return any(found.gaps for found in every)
