"""Benchmarks as tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from drq_sn.report.profile_tables import format_digits, matmul_shares
from drq_sn.report.table_formats import format_csv, format_markdown
from drq_sn.report.types import Row, Table
from drq_sn.runs.files import write_atomically

BENCH_FILE = "bench.json"
MEASURED = {"flops_per_update", "rounds", "frames_per_second"}  # of a row in bench.json


def bench_rows(measured: Sequence[Row]) -> list[Row]:
    """The table of one part of a benchmark: medians over rounds, the range of update times, ratios to the first row.

    Args:
        measured: rows with `flops_per_update` and `rounds` of samples, whole runs with `frames_per_second`, or
            anything else, which stays as it is; so do rows with an `error`, without their samples.

    Returns:
        Row by row, ratios being medians of the ratios in each round, to the first row with the same agent; without
        them if that one failed.
    """
    first_by_agent: dict[str, list[Row] | None] = {}
    return [_bench_row(row, first_by_agent) for row in measured]


def _bench_row(row: Row, first_by_agent: dict[str, list[Row] | None]) -> Row:
    what = {name: value for name, value in row.items() if name not in MEASURED}
    if "frames_per_second" in row and "error" not in row:
        rates = row["frames_per_second"]
        return {**what, "frames_per_second_of_one": statistics.median(rates), "frames_per_second_of_all": sum(rates)}
    samples = None if "error" in row else row.get("rounds")
    first = first_by_agent.setdefault(str(row.get("agent")), samples)
    if not samples:
        return what
    update_ms = [1e3 * sample["training_seconds"] for sample in samples]
    acting, sampling = (statistics.median(s[f"{name}_seconds"] for s in samples) for name in ("acting", "sampling"))
    pairs = list(zip(samples, first or (), strict=False))
    ratios = {
        f"{key}_ratio": statistics.median(s[f"{key}_seconds"] / f[f"{key}_seconds"] for s, f in pairs)
        for key in ("training", "acting")
        if pairs
    }
    return {
        **what,
        "updates_per_second": 1e3 / statistics.median(update_ms),
        "ms_per_update": statistics.median(update_ms),
        "ms_per_update_min": min(update_ms),
        "ms_per_update_max": max(update_ms),
        "ms_per_action": 1e3 * acting,
        **ratios,
        "gflop_per_update": row["flops_per_update"] / 1e9,
        "share_of_matmul": statistics.median(matmul_shares(row["flops_per_update"], samples)),
        "samples_per_second": row["batch_size"] / sampling,
    }


def _format_rows(name: str, rows: Sequence[Row]) -> str:
    fields = list(dict.fromkeys(field for row in rows for field in row))
    cells = [[row.get(field, "") for field in fields] for row in rows]
    lines = [[format_digits(cell) if isinstance(cell, float) else str(cell) for cell in line] for line in cells]
    return format_markdown(Table(name, [field.replace("_", " ") for field in fields], lines))


def write_bench(out_dir: Path, bench: Row) -> str:
    """Write a CSV of each part of a `bench.json`, and `table.txt`; return the text."""
    tables = {part: bench_rows(measured) for part, measured in bench["results"].items() if measured}
    for part, rows in tables.items():
        write_atomically(out_dir / f"{part}.csv", format_csv(rows))
    text = "\n".join(f"{part}\n{_format_rows(part, rows)}" for part, rows in tables.items())
    write_atomically(out_dir / "table.txt", f"{bench['machine']['device']}\n\n{text}\n".encode())
    return text
