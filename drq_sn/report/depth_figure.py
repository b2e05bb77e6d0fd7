"""What `drq-sn fit-replay` measured, as tables and a figure over the depth of the Q heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drq_sn.report.curves import Axis, Panel, draw
from drq_sn.report.style import save_figure
from drq_sn.report.table_formats import format_csv, format_markdown
from drq_sn.report.types import Row, Series, Table
from drq_sn.runs.files import write_atomically

PANELS = {
    "grad_norm_max/actor": "actor gradient norm, largest",
    "grad_norm_max/critic": "critic gradient norm, largest",
    "grad_norm/actor": "actor gradient norm at the end",
    "action_gradient_mean": "gradient of Q by the action, mean norm at the end",
    "sigma_max/critic": "largest spectral norm of a Q layer at the end",
    "effective_rank/critic": "effective rank of the critic's features at the end",
}
LARGEST = ("grad_norm_max/",)  # over all updates; everything else is at the end
FLOOR = 1e-16  # smaller values, zero included, are drawn there
LINEAR = ("effective_rank/critic",)
COLUMNS = 3


def write(out_dir: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write `offline.csv` (every row), `depth.csv` (a row per fit) and the figure; return the tables as text."""
    fits = summaries(rows)
    write_atomically(out_dir / "offline.csv", format_csv(rows))
    write_atomically(out_dir / "depth.csv", format_csv(fits))
    figure = save_figure("depth", "", draw(*_panels(fits), "mean over seeds, geometric on log axes", COLUMNS))
    write_atomically(out_dir / "depth.png", figure.png)
    write_atomically(out_dir / "depth.svg", figure.svg)
    return format_tables(fits)


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Per fit: the largest gradient norms, everything else at the end; NaN where a value is missing."""
    fits: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        fits.setdefault((row["normalizer"], int(row["depth"]), int(row["seed"])), []).append(row)
    rows_by_fit = []
    for key, members in fits.items():
        last = members[-1]
        values = {"sigma_max/critic": max((_number(last, n) for n in last if n.startswith("sigma/critic.q")),
                                          default=math.nan)}  # fmt: skip
        for name in PANELS.keys() - values:
            column = [_number(row, name) for row in members]
            values[name] = _largest(column) if name.startswith(LARGEST) else column[-1]
        identity = dict(zip(("normalizer", "depth", "seed"), key, strict=True))
        rows_by_fit.append({**identity, "updates": int(last["update"]), **{name: values[name] for name in PANELS}})
    return rows_by_fit


def _number(row: Mapping[str, Any], name: str) -> float:
    return float(row[name]) if row.get(name) not in ("", None) else math.nan


def _largest(values: Sequence[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else max(values)


def averages(fits: Sequence[Row], normalizer: str, name: str) -> dict[int, float]:
    """Depth -> mean over seeds, geometric except for ranks; NaN if a seed diverged."""
    means = {}
    for depth in sorted({fit["depth"] for fit in fits if fit["normalizer"] == normalizer}):
        values = [fit[name] for fit in fits if (fit["normalizer"], fit["depth"]) == (normalizer, depth)]
        logs = [value if name in LINEAR else math.log(value) if value else -math.inf for value in values]
        mean = sum(logs) / len(logs)
        means[depth] = mean if name in LINEAR else math.exp(mean)
    return means


def format_tables(fits: Sequence[Row]) -> str:
    """One table per panel: normalizers down, depths across."""
    depths = sorted({fit["depth"] for fit in fits})
    texts = []
    for name, title in PANELS.items():
        means = {normalizer: averages(fits, normalizer, name) for normalizer in _normalizers(fits)}
        rows = [(label, *(f"{mean.get(depth, math.nan):.3g}" for depth in depths)) for label, mean in means.items()]
        caption = f"{title}, {'mean' if name in LINEAR else 'geometric mean'} over seeds, by depth"
        texts.append(f"{caption}\n{format_markdown(Table(name, ('', *map(str, depths)), rows))}")
    return "\n".join(texts)


def _normalizers(fits: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(fit["normalizer"] for fit in fits))


def _panels(fits: Sequence[Row]) -> tuple[list[Panel], Axis]:
    """One panel per quantity over depth, a curve per normalizer."""
    depths, seeds = sorted({fit["depth"] for fit in fits}), sorted({fit["seed"] for fit in fits})
    panels = []
    for name, title in PANELS.items():
        groups = {
            normalizer: [
                Series({fit["depth"]: fit[name] if name in LINEAR else max(fit[name], FLOOR)
                        for fit in sorted(fits, key=lambda fit: fit["depth"])
                        if (fit["normalizer"], fit["seed"]) == (normalizer, seed)})
                for seed in seeds
            ]
            for normalizer in _normalizers(fits)
        }  # fmt: skip
        panels.append(Panel(title, groups, log=name not in LINEAR))
    return panels, Axis(max(depths) or 1, "depth of the Q heads", depths)
