"""A profile as tables, CSV, JSON and a picture, beside the paper's Table 3."""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from drq_sn.report.table_formats import aligned, format_csv
from drq_sn.runs.files import write_atomically, write_json

METRICS = {
    "training_memory_gb": "training memory (GB)",
    "acting_memory_mb": "acting memory (MB)",
    "training_time_ms": "training time (ms an update)",
    "acting_time_ms": "acting time (ms an action)",
}
VALUES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "training_memory_gb": lambda m: _scaled(_bytes(m, "training_memory"), 1e-9),
    "acting_memory_mb": lambda m: _scaled(_bytes(m, "acting_memory"), 1e-6),
    "training_time_ms": lambda m: _scaled(m["training_seconds"], 1e3),
    "acting_time_ms": lambda m: _scaled(m["acting_seconds"], 1e3),
}
BASE_HEAD, BASE_NORMALIZER = "mlp2", "none"
PAPER_NORMALIZER = "none"  # the paper's Table 3 is without spectral normalization

Row = dict[str, Any]


def table_rows(measurements: Sequence[dict[str, Any]], paper: dict[str, dict[str, float]]) -> list[Row]:
    """One row per head and normalizer: mean and sd over runs, the paper's figure, and both as ratios to mlp2.

    Args:
        measurements: what `measure_agent` returned, with `head`, `normalizer` and `run`; or these and `error`.
        paper: head -> the paper's figures.
    """
    rows = []
    for head, normalizer in dict.fromkeys((m["head"], m["normalizer"]) for m in measurements):
        runs = [m for m in measurements if (m["head"], m["normalizer"]) == (head, normalizer)]
        good = [m for m in runs if "error" not in m]
        row: Row = {"head": head, "normalizer": normalizer, "num_runs": len(good)}
        if len(good) < len(runs):
            row["error"] = next(m["error"] for m in runs if "error" in m)
        for metric in METRICS:
            values = [value for m in good if (value := VALUES[metric](m)) is not None]
            row[metric] = statistics.mean(values) if values else None
            row[f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
            row[f"{metric}_paper"] = paper.get(head, {}).get(metric) if normalizer == PAPER_NORMALIZER else None
        row |= _operations(good)
        rows.append(row)
    _add_ratios(rows)
    return rows


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _bytes(measurement: dict[str, Any], name: str) -> float | None:
    """Allocated bytes; None for a run that did not measure memory."""
    return measurement[name]["allocated_bytes"] if name in measurement else None


def _operations(runs: Sequence[dict[str, Any]]) -> Row:
    """Counted operations of an update, and its share of the rate that a matrix product reached in the same runs."""
    flops = next((m["flops_per_update"] for m in runs if "flops_per_update" in m), None)
    if flops is None:
        return {"gflops_per_update": None, "share_of_matmul": None}
    shares = [flops / m["training_seconds"] / m["matmul_flops_per_second"] for m in runs]
    return {"gflops_per_update": flops / 1e9, "share_of_matmul": statistics.mean(shares)}


def _add_ratios(rows: list[Row]) -> None:
    base = next((row for row in rows if (row["head"], row["normalizer"]) == (BASE_HEAD, BASE_NORMALIZER)), {})
    for row in rows:
        plain = next((r for r in rows if (r["head"], r["normalizer"]) == (row["head"], BASE_NORMALIZER)), {})
        for metric in METRICS:
            row[f"{metric}_ratio"] = _ratio(row[metric], base.get(metric))
            row[f"{metric}_ratio_paper"] = _ratio(row[f"{metric}_paper"], base.get(f"{metric}_paper"))
            row[f"{metric}_ratio_plain"] = _ratio(row[metric], plain.get(metric))


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def format_tables(rows: Sequence[Row], measurements: Sequence[dict[str, Any]]) -> str:
    """Every metric as a table, then operations and phases."""
    text = [
        "paper: Bjorck et al. (2021), Table 3, DrQ at batch 512 on a V100. "
        "x mlp2: ratio to mlp2 without normalizer. x none: ratio to the same head without it."
    ]
    for metric, title in METRICS.items():
        header = ("", "", title, "paper", "x mlp2", "paper's", "x none")
        lines = [
            (
                row["head"],
                row["normalizer"],
                _number(row[metric]) + (f" ± {row[f'{metric}_sd']:.2g}" if row[f"{metric}_sd"] else ""),
                *(_number(row[f"{metric}_{column}"]) for column in ("paper", "ratio", "ratio_paper", "ratio_plain")),
            )
            for row in rows
        ]
        text.append(aligned([header, *lines], num_left=2))
    operations = [
        (row["head"], row["normalizer"], _number(row["gflops_per_update"]), _percent(row["share_of_matmul"]))
        for row in rows
    ]
    text.append(aligned([("", "", "GFLOP an update", "share of a matrix product's rate"), *operations], num_left=2))
    detailed = [m for m in measurements if "phase_seconds" in m]
    if detailed:
        names = ("", "", *(f"{phase} (ms)" for phase in detailed[0]["phase_seconds"]))
        phases = [
            (m["head"], m["normalizer"], *(_number(seconds * 1e3) for seconds in m["phase_seconds"].values()))
            for m in detailed
        ]
        text.append(aligned([names, *phases], num_left=2))
    text += [f"{row['head']} {row['normalizer']}: a run failed: {row['error']}" for row in rows if "error" in row]
    return "\n\n".join(text)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}" if value < 1 else f"{value:.2f}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def write_report(
    out_dir: Path, about: dict[str, Any], rows: list[Row], text: str, measurements: list[dict[str, Any]], traces: Path
) -> None:
    """Write `table.csv`, `phases.csv`, `profile.json`, `table.txt`, `profile.png` and the traces.

    Args:
        out_dir: existing folder.
        about: machine and settings.
        rows: from `table_rows`.
        text: from `format_tables`.
        measurements: see `table_rows`.
        traces: folder whose files go along.
    """
    write_json(out_dir / "profile.json", {**about, "measurements": measurements})
    write_atomically(out_dir / "table.csv", format_csv(rows))
    phases = [
        {"head": m["head"], "normalizer": m["normalizer"], **m["phase_seconds"]}
        for m in measurements
        if "phase_seconds" in m
    ]
    if phases:
        write_atomically(out_dir / "phases.csv", format_csv(phases))
    write_atomically(out_dir / "table.txt", f"{about['machine']['device']}\n\n{text}\n".encode())
    for trace in traces.iterdir():
        shutil.move(str(trace), out_dir / trace.name)
    draw(out_dir / "profile.png", rows, about)


def draw(path: Path, rows: Sequence[Row], about: dict[str, Any]) -> None:
    """Bars of every metric as ratios to mlp2 beside the paper's, with the measured values on them."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(13, 8), constrained_layout=True)
    for axes, (metric, title) in zip(panels.flat, METRICS.items(), strict=True):
        bars = [(row, row[f"{metric}_ratio"] or 0.0) for row in rows]
        drawn = axes.bar(range(len(bars)), [height for _, height in bars], width=0.4, label="here")
        axes.bar_label(drawn, [_short(row[metric]) for row, _ in bars], fontsize=8)
        paper = [(i + 0.4, row) for i, row in enumerate(rows) if row[f"{metric}_ratio_paper"] is not None]
        drawn = axes.bar(
            [i for i, _ in paper], [row[f"{metric}_ratio_paper"] for _, row in paper], width=0.4, label="paper, V100"
        )
        axes.bar_label(drawn, [_short(row[f"{metric}_paper"]) for _, row in paper], fontsize=8)
        labels = [
            row["head"] + ("" if row["normalizer"] == BASE_NORMALIZER else f"\n{row['normalizer']}") for row in rows
        ]
        axes.set_xticks([i + 0.2 for i in range(len(rows))], labels, fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_ylabel("ratio to mlp2")
        axes.margins(y=0.15)
    panels.flat[0].legend(fontsize=8)
    settings = about["settings"]
    figure.suptitle(f"{about['agent']}, batch {settings['batch_size']}, {about['machine']['device']}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
