"""What `cli.fit_replay` measured, as tables and a figure over depth."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drq_sn.report.dynamics_figure import COLOURS, LINES, save_images
from drq_sn.report.table_formats import csv_of
from drq_sn.runs.files import write_atomically

Row = Mapping[str, Any]
PANELS = {
    "grad_norm_max/actor": "actor gradient norm, largest",
    "grad_norm_max/critic": "critic gradient norm, largest",
    "grad_norm/actor": "actor gradient norm at the end",
    "action_gradient_mean": "gradient of Q by the action, mean norm at the end",
    "sigma_max/critic": "largest spectral norm of a Q layer at the end",
    "effective_rank/critic": "effective rank of the critic's features at the end",
}
LARGEST = ("grad_norm_max/",)  # over all updates; everything else as it is at the end
FLOOR = 1e-16  # what is smaller, zero included, is drawn there
LINEAR = ("effective_rank/critic",)
COLUMNS = 3


def write(out_dir: Path, rows: Sequence[Row]) -> str:
    """Write `offline.csv` (every row), `depth.csv` (a row per fit), `depth.png` and `depth.svg`; return the latter as text."""
    fits = summaries(rows)
    write_atomically(out_dir / "offline.csv", csv_of(rows))
    write_atomically(out_dir / "depth.csv", csv_of(fits))
    for kind, data in draw(fits).items():
        write_atomically(out_dir / f"depth.{kind}", data)
    return format_table(fits)


def summaries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Per fit, what the figure shows: the largest gradient norms, everything else at the end; NaN where there is one."""
    found = []
    for key in dict.fromkeys((row["normalizer"], int(row["depth"]), int(row["seed"])) for row in rows):
        own = [row for row in rows if (row["normalizer"], int(row["depth"]), int(row["seed"])) == key]
        last = own[-1]
        sigmas = [_number(last[name]) for name in last if name.startswith("sigma/critic.q")]
        values = {"sigma_max/critic": max(sigmas, default=math.nan)}
        for name in PANELS.keys() - values:
            column = np.array([_number(row.get(name)) for row in own])
            values[name] = float(column.max() if name.startswith(LARGEST) else column[-1])  # NaN is the largest of all
        identity = dict(zip(("normalizer", "depth", "seed"), key, strict=True))
        found.append({**identity, "updates": int(last["update"]), **{name: values[name] for name in PANELS}})
    return found


def _number(text: Any) -> float:
    return float(text) if text not in ("", None) else math.nan


def averages(fits: Sequence[Row], normalizer: str, name: str) -> dict[int, float]:
    """Depth -> mean over seeds; of logarithms, but for ranks. A crashed seed makes it NaN."""
    found = {}
    for depth in sorted({fit["depth"] for fit in fits if fit["normalizer"] == normalizer}):
        values = np.array([fit[name] for fit in fits if (fit["normalizer"], fit["depth"]) == (normalizer, depth)])
        with np.errstate(divide="ignore", invalid="ignore"):
            found[depth] = float(values.mean() if name in LINEAR else np.exp(np.log(values).mean()))
    return found


def format_table(fits: Sequence[Row]) -> str:
    """One table per panel: normalizers down, depths across."""
    depths = sorted({fit["depth"] for fit in fits})
    text = []
    for name, title in PANELS.items():
        text.append(f"{title}, {'mean' if name in LINEAR else 'geometric mean'} over seeds, by depth")
        text.append(" " * 12 + "".join(f"{depth:>10}" for depth in depths))
        for normalizer in dict.fromkeys(fit["normalizer"] for fit in fits):
            values = averages(fits, normalizer, name)
            text.append(f"{normalizer:<12}" + "".join(f"{values.get(depth, math.nan):>10.3g}" for depth in depths))
        text.append("")
    return "\n".join(text)


def draw(fits: Sequence[Row]) -> dict[str, bytes]:
    """One panel per quantity over depth, a line per normalizer, a point per seed: `png` and `svg` -> the file."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(math.ceil(len(PANELS) / COLUMNS), COLUMNS, figsize=(14, 8), layout="constrained")
    for axes, (name, title) in zip(panels.flat, PANELS.items(), strict=True):
        for number, normalizer in enumerate(dict.fromkeys(fit["normalizer"] for fit in fits)):
            look = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}
            values = averages(fits, normalizer, name)
            axes.plot(list(values), np.maximum(list(values.values()), FLOOR), label=normalizer, **look)
            own = [fit for fit in fits if fit["normalizer"] == normalizer]
            axes.plot(
                [fit["depth"] for fit in own], np.maximum([fit[name] for fit in own], FLOOR), ".", color=look["color"]
            )
        axes.set(title=title, xlabel="depth of the Q heads", yscale="linear" if name in LINEAR else "log")
        axes.set_xticks(sorted({fit["depth"] for fit in fits}))
        axes.grid(alpha=0.3)
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    images = save_images(figure)
    plt.close(figure)
    return images
