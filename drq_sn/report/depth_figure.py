"""What `drq-sn fit-replay` measured, as tables and a figure over the depth of the Q heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drq_sn.report.curves import Panel, average, draw
from drq_sn.report.style import save_figure
from drq_sn.report.table_formats import format_csv, format_markdown
from drq_sn.report.types import Row, Series, Table
from drq_sn.runs.files import write_atomically

PANELS = {
    "grad_norm_max/actor": "actor gradient norm, largest",
    "grad_norm_max/critic": "critic gradient norm, largest",
    "grad_norm/actor": "actor gradient norm at the end",
    "action_gradient_mean": "gradient of Q by the action, mean norm at the end",
    "sigma_max/critic": "largest spectral norm of a Q head's weights at the end, before normalization",
    "effective_rank/critic": "effective rank of the critic's features at the end",
}
LAYERS = {"sigma_max/critic": "sigma/critic.q"}  # the largest of several columns -> how their names begin
LARGEST = ("grad_norm_max/actor", "grad_norm_max/critic")  # over all updates; everything else is at the end
FLOOR = 1e-16  # smaller values, zero included, count as this on a logarithmic axis
LINEAR = ("effective_rank/critic",)
COLUMNS = 3


def write(out_dir: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write `offline.csv` (every row), `depth.csv` (a row per fit) and the figure; return the tables as text."""
    fits = summaries(rows)
    panels, depths = depth_panels(fits), sorted({fit["depth"] for fit in fits})
    drawn = draw(panels, max(depths), "mean over seeds, geometric on log axes", COLUMNS, "depth of the Q heads",
                 depths)  # fmt: skip
    figure = save_figure("depth", "", drawn)
    write_atomically(out_dir / "offline.csv", format_csv(rows))
    write_atomically(out_dir / "depth.csv", format_csv(fits))
    write_atomically(out_dir / "depth.pdf", figure.pdf)
    write_atomically(out_dir / "depth.svg", figure.svg)
    return "\n".join(f"{panel.title}, mean over seeds by depth\n{format_markdown(depth_table(panel, depths))}"
                     for panel in panels)  # fmt: skip


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Per fit: the largest gradient norms, everything else at the end; NaN where a value is missing."""
    fits: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        fits.setdefault((row["normalizer"], int(row["depth"]), int(row["seed"])), []).append(row)
    return [_summary(*key, members) for key, members in fits.items()]


def _summary(normalizer: str, depth: int, seed: int, rows: Sequence[Mapping[str, Any]]) -> Row:
    last = rows[-1]
    summary = {"normalizer": normalizer, "depth": depth, "seed": seed, "updates": int(last["update"])}
    for name in PANELS:
        columns = [name]
        if name in LAYERS:  # a file has the layers of all depths
            columns = [c for c in last if c.startswith(LAYERS[name]) and last[c] not in ("", None)]
        values = [_number(row, column) for row in (rows if name in LARGEST else rows[-1:]) for column in columns]
        summary[name] = math.nan if not values or any(map(math.isnan, values)) else max(values)
    return summary


def _number(row: Mapping[str, Any], name: str) -> float:
    return float(row[name]) if row.get(name) not in ("", None) else math.nan


def depth_panels(fits: Sequence[Row]) -> list[Panel]:
    """One panel per quantity over depth, with a curve per normalizer."""
    seeds, normalizers = sorted({fit["seed"] for fit in fits}), list(dict.fromkeys(fit["normalizer"] for fit in fits))
    panels = []
    for name, title in PANELS.items():
        groups = {
            normalizer: [
                Series({fit["depth"]: fit[name] if name in LINEAR else max(fit[name], FLOOR)
                        for fit in sorted(fits, key=lambda fit: fit["depth"])
                        if (fit["normalizer"], fit["seed"]) == (normalizer, seed)})
                for seed in seeds
            ]
            for normalizer in normalizers
        }  # fmt: skip
        panels.append(Panel(title, groups, log=name not in LINEAR))
    return panels


def depth_table(panel: Panel, depths: Sequence[int]) -> Table:
    """What `panel` draws: normalizers down, depths across."""
    rows = []
    for normalizer, series in panel.groups.items():
        curve = average(series, log=panel.log)
        means = dict(zip(curve.frames, curve.mean, strict=True))
        rows.append((normalizer, *(f"{means.get(depth, math.nan):.3g}" for depth in depths)))
    return Table("depth", ("", *map(str, depths)), rows)
