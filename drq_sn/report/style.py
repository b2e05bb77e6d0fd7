"""The style of every figure: colors, lines, marks, legend and image formats."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from drq_sn.report.types import Figure

# Colors of Okabe and Ito, safe for color-blind readers, without yellow; 7 and 4 are coprime: 28 pairs, then markers
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = "os^D"
NUM_STYLES = len(COLORS) * len(LINES) * len(MARKERS)
PAPER = {"modern4 + SN": 0, "modern4": 22, "mlp4": 23, "mlp2": 25}  # four colors and four lines

Style = dict[str, Any]
"""Keyword arguments of a line."""

GREY = "#777777"
COLUMN, PAGE = 3.3, 6.75  # inches, of the text on a page with two columns
SMALL, NORMAL = 6, 7  # points
THIN: Style = {"linewidth": 0.7, "alpha": 0.55}
CROSS: Style = {"marker": "x", "markersize": 5, "markeredgewidth": 1.6, "linestyle": ""}
BELOW: Style = {"marker": "v", "markersize": 3, "markerfacecolor": "none", "linestyle": ""}
ABOVE: Style = {**BELOW, "marker": "^"}
RELEASED: Style = {"marker": "s", "markersize": 1.6, "color": "#999999", "linestyle": ""}
LEGEND_CHARACTERS, LEGEND_LINE = 21, 0.125  # per inch; inches
LEGEND_LINES = 3  # for which figures have room


def line_styles(labels: Sequence[str]) -> dict[str, Style]:
    """Label -> style: the paper's variants have one each in all figures, others get the rest in their order."""
    others = [label for label in labels if label not in PAPER]
    taken = {PAPER[label] for label in labels if label in PAPER}
    free = [number for number in range(NUM_STYLES) if number not in taken]
    numbers = PAPER | {label: free[i % len(free)] for i, label in enumerate(others)}
    return {
        label: {
            "color": COLORS[n % len(COLORS)],
            "linestyle": LINES[n % len(LINES)],
            "linewidth": 1.1,
            "marker": MARKERS[n // (len(COLORS) * len(LINES))],
            "markersize": 2,
        }
        for label in labels
        for n in [numbers[label]]
    }


def create_canvas(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches, without window or global state."""
    for package in ("matplotlib", "fontTools"):  # silence messages about font caches and subsets
        logging.getLogger(package).setLevel(logging.WARNING)
    import matplotlib.figure

    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def mark_empty(axes: Any, text: str) -> None:
    """Write `text` into a panel without data."""
    axes.text(0.5, 0.5, text, color=GREY, fontsize=SMALL, ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def add_legend(figure: Any, handles: Mapping[str, Any]) -> None:
    """One legend above all panels of a matplotlib figure, which grows with it, in as many columns as fit.

    Args:
        figure: the figure.
        handles: label -> handle.
    """
    longest = max(map(len, handles)) + 8
    columns = max(1, min(len(handles), round(LEGEND_CHARACTERS * figure.get_figwidth()) // longest))
    further = max(0, math.ceil(len(handles) / columns) - LEGEND_LINES)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * further)
    figure.legend(
        list(handles.values()),
        list(map(escape_math, handles)),
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        handlelength=3.5,
        columnspacing=1.2,
    )


def escape_math(text: str) -> str:
    """`text` with dollar signs that matplotlib does not read as math."""
    return text.replace("$", r"\$")


def save_figure(name: str, alt: str, drawn: Any) -> Figure:
    """A matplotlib figure as SVG and as PDF with TrueType fonts; the same data give the same bytes."""
    import matplotlib

    images = {}
    with matplotlib.rc_context({"svg.hashsalt": "drq_sn", "pdf.fonttype": 42}):
        for kind, metadata in (("svg", {"Date": None}), ("pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            drawn.savefig(buffer, format=kind, metadata=metadata)
            images[kind] = buffer.getvalue()
    return Figure(name, alt, images["svg"], images["pdf"])
