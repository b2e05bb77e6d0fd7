"""Profiles and benchmarks as tables and a figure, profiles beside the paper's Table 3."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drq_sn.report.published import TABLE3, read_table
from drq_sn.report.table_formats import aligned, format_csv
from drq_sn.runs.files import write_atomically

PROFILE_FILE, BENCH_FILE = "profile.json", "bench.json"
METRICS = {
    "training_memory_gb": "training memory (GB)",
    "acting_memory_mb": "acting memory (MB)",
    "training_time_ms": "training time (ms per update)",
    "acting_time_ms": "acting time (ms per action)",
}
SOURCES = {  # metric -> key of a measurement, factor
    "training_memory_gb": ("training_memory", 1e-9),
    "acting_memory_mb": ("acting_memory", 1e-6),
    "training_time_ms": ("training_seconds", 1e3),
    "acting_time_ms": ("acting_seconds", 1e3),
}
BASE_HEAD, BASE_NORMALIZER = "mlp2", "none"
PAPER_NORMALIZER = "none"  # the paper's Table 3 is without spectral normalization
OLDER_NAMES = {"update": "training_seconds", "action": "acting_seconds", "draw": "sampling_seconds"}  # in bench.json
MEASURED = {"flops_per_update", "rounds", "repeats", "frames_per_second", "peak_memory_bytes"}  # of a row in bench.json
TIMED = ("training", "acting", "sampling")

Row = dict[str, Any]


def table_rows(measurements: Sequence[Row], paper: Mapping[str, dict[str, float]]) -> list[Row]:
    """One row per head and normalizer: mean and sd over rounds, the paper's value, and ratios of both.

    Args:
        measurements: `head`, `normalizer` and what `AgentProfiler` measured, or `error`.
        paper: head -> the paper's values.
    """
    rows = []
    for head, normalizer in dict.fromkeys((m["head"], m["normalizer"]) for m in measurements):
        measured = [m for m in measurements if (m["head"], m["normalizer"]) == (head, normalizer)]
        errors = [m["error"] for m in measured if "error" in m]
        num_rounds = len(_values(measured, "training_time_ms"))
        row: Row = {"head": head, "normalizer": normalizer, "num_rounds": num_rounds}
        row |= {"error": errors[0]} if errors else {}
        for metric in METRICS:
            values = _values(measured, metric)
            row[metric] = statistics.mean(values) if values else None
            row[f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
            row[f"{metric}_paper"] = paper.get(head, {}).get(metric) if normalizer == PAPER_NORMALIZER else None
        flops = next((m["flops_per_update"] for m in measured if "flops_per_update" in m), None)
        row["gflops_per_update"] = flops and flops / 1e9
        row["share_of_matmul"] = statistics.mean(_matmul_shares(flops, measured)) if flops and num_rounds else None
        rows.append(row)
    by_name = {(row["head"], row["normalizer"]): row for row in rows}
    for row in rows:
        base = by_name.get((BASE_HEAD, BASE_NORMALIZER), {})
        plain = by_name.get((row["head"], BASE_NORMALIZER), {})
        for metric in METRICS:
            row[f"{metric}_ratio"] = _ratio(row[metric], base.get(metric))
            row[f"{metric}_ratio_paper"] = _ratio(row[f"{metric}_paper"], base.get(f"{metric}_paper"))
            row[f"{metric}_ratio_plain"] = _ratio(row[metric], plain.get(metric))
    return rows


def _values(measurements: Sequence[Row], metric: str) -> list[float]:
    key, factor = SOURCES[metric]
    values = (m[key] for m in measurements if key in m)  # in files of older versions, memory has several numbers
    return [factor * (value["allocated_bytes"] if isinstance(value, dict) else value) for value in values]


def _matmul_shares(flops: float, measurements: Sequence[Row]) -> list[float]:
    """Rate of each timed update, as a fraction of the rate of a matrix product measured beside it."""
    samples = [m for m in measurements if "training_seconds" in m]
    return [flops / m["training_seconds"] / m["matmul_flops_per_second"] for m in samples]


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def format_profile(rows: Sequence[Row], measurements: Sequence[Row]) -> str:
    """Every metric as a table, then operations and phases.

    Args:
        rows: from `table_rows`.
        measurements: see `table_rows`.
    """
    text = [
        "paper: Bjorck et al. (2021), Table 3, DrQ at batch 512 on a V100. "
        "x mlp2: ratio to mlp2 without normalizer. x none: ratio to the same head without it."
    ]
    for metric, title in METRICS.items():
        lines = [["", "", title, "paper", "x mlp2", "paper's", "x none"]]
        for row in rows:
            spread = f" ± {row[f'{metric}_sd']:.2g}" if row[f"{metric}_sd"] else ""
            others = (_number(row[f"{metric}_{column}"]) for column in ("paper", "ratio", "ratio_paper", "ratio_plain"))
            lines.append([row["head"], row["normalizer"], _number(row[metric]) + spread, *others])
        text.append(aligned(lines, num_left=2))
    lines = [["", "", "GFLOP per update", "fraction of a matrix product's rate"]]
    for row in rows:
        share = "-" if row["share_of_matmul"] is None else f"{row['share_of_matmul']:.0%}"
        lines.append([row["head"], row["normalizer"], _number(row["gflops_per_update"]), share])
    text.append(aligned(lines, num_left=2))
    if phases := _phase_rows(measurements, 1e3):
        lines = [["", "", *(f"{phase} (ms)" for phase in list(phases[0])[2:])]]
        lines += [[cell if isinstance(cell, str) else _number(cell) for cell in row.values()] for row in phases]
        text.append(aligned(lines, num_left=2))
    text += [f"{row['head']} {row['normalizer']}: failed: {row['error']}" for row in rows if "error" in row]
    return "\n\n".join(text)


def _phase_rows(measurements: Sequence[Row], factor: float = 1.0) -> list[Row]:
    return [
        {"head": m["head"], "normalizer": m["normalizer"]} | {k: factor * v for k, v in m["phase_seconds"].items()}
        for m in measurements
        if "phase_seconds" in m
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}" if value < 1 else f"{value:.2f}"


def write_profile(out_dir: Path, profile: Row) -> str:
    """Write `table.csv`, `phases.csv`, `table.txt` and `profile.png`; return the text.

    Args:
        out_dir: existing directory.
        profile: content of `profile.json`: agent, machine, settings, measurements.
    """
    measurements = profile["measurements"]
    rows = table_rows(measurements, read_table(TABLE3, key="head"))
    text = format_profile(rows, measurements)
    write_atomically(out_dir / "table.csv", format_csv(rows))
    if phases := _phase_rows(measurements):
        write_atomically(out_dir / "phases.csv", format_csv(phases))
    write_atomically(out_dir / "table.txt", f"{profile['machine']['device']}\n\n{text}\n".encode())
    title = f"{profile['agent']}, batch {profile['settings']['batch_size']}, {profile['machine']['device']}"
    draw(out_dir / "profile.png", rows, title)
    return text


def draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """Bars of every metric as ratios to mlp2 beside the paper's, labeled with the values."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # silence font-cache messages
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(13, 8), constrained_layout=True)
    names = [row["head"] + ("" if row["normalizer"] == BASE_NORMALIZER else f"\n{row['normalizer']}") for row in rows]
    for axes, (metric, metric_title) in zip(panels.flat, METRICS.items(), strict=True):
        for offset, source, label in ((0.0, "", "here"), (0.4, "_paper", "paper, V100")):
            bars = [(i + offset, row) for i, row in enumerate(rows) if row[f"{metric}_ratio{source}"] is not None]
            heights = [row[f"{metric}_ratio{source}"] for _, row in bars]
            drawn = axes.bar([x for x, _ in bars], heights, width=0.4, label=label)
            axes.bar_label(drawn, [f"{row[f'{metric}{source}']:.3g}" for _, row in bars], fontsize=8)
        axes.set_xticks([i + 0.2 for i in range(len(rows))], names, fontsize=8)
        axes.set_title(metric_title, fontsize=10)
        axes.set_ylabel("ratio to mlp2")
        axes.margins(y=0.15)
    panels.flat[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def bench_rows(measured: Sequence[Row]) -> list[Row]:
    """The table of one part of a benchmark: medians over rounds, the range of update times, ratios to the first row.

    Args:
        measured: rows with `flops_per_update` and `rounds` of samples, whole runs with `frames_per_second`, or
            anything else, which stays as it is; so do rows with an `error`, without their samples.

    Returns:
        Row by row, ratios being medians of the ratios in each round, to the first row with the same agent.
    """
    first_by_agent: dict[str, list[Row]] = {}
    return [_bench_row(row, first_by_agent) for row in measured]


def _bench_row(row: Row, first_by_agent: dict[str, list[Row]]) -> Row:
    what = {name: value for name, value in row.items() if name not in MEASURED}
    if "error" in row:
        return what
    if "frames_per_second" in row:
        rates = row["frames_per_second"]
        fps = {"frames_per_second_of_one": statistics.median(rates), "frames_per_second_of_all": sum(rates)}
        memory = {"peak_memory_gb": row["peak_memory_bytes"] / 1e9} if "peak_memory_bytes" in row else {}
        return what | fps | memory
    if "flops_per_update" not in row:
        return row
    samples = row.get("rounds") or [{OLDER_NAMES.get(k, k): v for k, v in r.items()} for r in row.get("repeats", [])]
    if not samples:
        return what
    first = first_by_agent.setdefault(row["agent"], samples)
    update, acting, sampling = (statistics.median(s[f"{name}_seconds"] for s in samples) for name in TIMED)
    pairs = list(zip(samples, first, strict=False))
    ratios = {
        f"{key}_ratio": statistics.median(s[f"{key}_seconds"] / f[f"{key}_seconds"] for s, f in pairs)
        for key in ("training", "acting")
    }
    return {
        **what,
        "updates_per_second": 1 / update,
        "ms_per_update": 1e3 * update,
        "ms_per_update_min": 1e3 * min(s["training_seconds"] for s in samples),
        "ms_per_update_max": 1e3 * max(s["training_seconds"] for s in samples),
        "ms_per_action": 1e3 * acting,
        **ratios,
        "gflop_per_update": row["flops_per_update"] / 1e9,
        "share_of_matmul": statistics.median(_matmul_shares(row["flops_per_update"], samples)),
        "samples_per_second": row["batch_size"] / sampling,
    }


def format_rows(rows: Sequence[Row]) -> str:
    """Rows as text, in columns named by their fields."""
    fields = list(dict.fromkeys(field for row in rows for field in row))
    lines = [[field.replace("_", " ") for field in fields]]
    lines += [[_cell(row.get(field, "")) for field in fields] for row in rows]
    return aligned(lines, num_left=len(fields))


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_bench(out_dir: Path, bench: Row) -> str:
    """Write a CSV of each part and `table.txt`; return the text.

    Args:
        out_dir: existing directory.
        bench: content of `bench.json`: machine, settings, and `results` by part.
    """
    tables = {part: bench_rows(measured) for part, measured in bench["results"].items() if measured}
    for part, rows in tables.items():
        write_atomically(out_dir / f"{part}.csv", format_csv(rows))
    text = "\n\n".join(f"{part}\n{format_rows(rows)}" for part, rows in tables.items())
    write_atomically(out_dir / "table.txt", f"{bench['machine']['device']}\n\n{text}\n".encode())
    return text
