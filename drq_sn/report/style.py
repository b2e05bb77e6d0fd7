"""How variants look, the same in every figure, and what every figure begins with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import product
from typing import Any

from drq_sn.report.dynamics_figure import COLOURS, LEGEND_CHARACTERS, LINES, Style, style
from drq_sn.report.types import Variant

PAPER = {"modern4 + SN": 0, "modern4": 22, "mlp4": 23, "mlp2": 25}  # four colors and four lines
NORMALIZERS = {
    "weight_norm": 16,
    "div_out": 17,
    "nap": 18,
    "div_grad": 19,
    "mul_eps": 20,
}  # none has a color of modern4
FIXED = PAPER | {f"modern4 + {name}": number for name, number in NORMALIZERS.items()}
FREE = [number for number in range(len(COLOURS) * len(LINES)) if number not in FIXED.values()]
HEADS = ("mlp2", "mlp4", "modern2", "mlp_ln", "simba", "bronet", "d2rl")
OTHERS = [label for label in map("".join, product(HEADS, ("", " + SN"))) if label not in FIXED]
NUMBERS = FIXED | dict(zip(OTHERS, FREE, strict=False))
SPARE = FREE[len(OTHERS) :]

GREY = "#777777"
SMALL, NORMAL = 8, 9  # points


def names(variants: Sequence[Variant]) -> dict[Variant, str]:
    """Variant -> what legends call it: its label, after its agent where there are several."""
    several = len({variant.agent for variant in variants}) > 1
    return {variant: f"{variant.agent} {variant.label}" if several else variant.label for variant in variants}


def looks(labels: Sequence[str]) -> dict[str, Style]:
    """Label -> style; that of a label in `NUMBERS` does not depend on what else is drawn."""
    unknown = [label for label in labels if label not in NUMBERS]
    numbers = NUMBERS | {label: SPARE[i % len(SPARE)] for i, label in enumerate(unknown)}
    return {label: style(numbers[label]) for label in labels}


def canvas(width: float, height: float) -> Any:
    """An empty matplotlib figure of that size, in inches, which no window and no global state knows of."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    import matplotlib.figure

    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def say_nothing_there(axes: Any, text: str) -> None:
    """Write `text` into a panel that has no data."""
    axes.text(0.5, 0.5, text, color=GREY, fontsize=SMALL, ha="center", va="center", transform=axes.transAxes)


def add_legend(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend above all panels, in as many columns as fit, to be read row by row."""
    if not labels:
        return
    widest = max(map(len, labels)) + 8
    columns = max(1, min(len(labels), round(LEGEND_CHARACTERS * figure.get_figwidth()) // widest))
    order = [i for column in range(columns) for i in range(column, len(labels), columns)]  # matplotlib fills columns
    texts = [labels[i].replace("$", r"\$") for i in order]
    place = {"loc": "outside upper left", "ncols": columns, "frameon": False}
    figure.legend([handles[i] for i in order], texts, **place, fontsize=SMALL, handlelength=3.5, columnspacing=1.6)


def in_frames(frame: float) -> str:
    """A number of frames in words: `500 thousand frames`."""
    size, unit = (1e6, "million ") if frame >= 1e6 else (1e3, "thousand ") if frame >= 1e3 else (1, "")
    return f"{frame / size:g} {unit}frames"


def counted(number: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
