"""A benchmark as tables, CSV and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from drq_sn.report.table_formats import aligned, format_csv
from drq_sn.runs.files import write_atomically, write_json

CHANGED = ("changed", "value")  # what a row of the part `scaling` varies
Row = dict[str, Any]
Measured = dict[str, list[Row]]
"""Part of the benchmark -> what was measured, row by row."""


def summary(part: str, measured: Sequence[Row]) -> list[Row]:
    """The rows of one table: medians over repeats; a row that failed keeps its `error`."""
    summaries: dict[str, Callable[[Row], Row]] = {"updates": _learning, "scaling": _learning, "training": _training}
    return [row if "error" in row else summaries.get(part, dict)(row) for row in measured]


def _learning(row: Row) -> Row:
    repeats = row["repeats"]
    update, action, draw = (statistics.median(r[name] for r in repeats) for name in ("update", "action", "draw"))
    shares = [row["flops_per_update"] / r["update"] / r["matmul_flops_per_second"] for r in repeats]
    return {
        **{
            name: row[name]
            for name in (*CHANGED, "agent", "head", "normalizer", "runtime", "batch_size")
            if name in row
        },
        "updates_per_second": 1 / update,
        "ms_per_update": 1e3 * update,
        "gflop_per_update": row["flops_per_update"] / 1e9,
        "share_of_matmul": statistics.median(shares),
        "share_of_matmul_lowest": min(shares),
        "share_of_matmul_highest": max(shares),
        "ms_per_action": 1e3 * action,
        "samples_per_second": row["batch_size"] / draw,
    }


def _training(row: Row) -> Row:
    rates = row["frames_per_second"]
    identity = {name: row[name] for name in ("agent", "head", "normalizer", "preset", "runs_at_once")}
    return {
        **identity,
        "frames_per_second_of_one": statistics.median(rates),
        "frames_per_second_of_all": sum(rates),
        "peak_memory_gb": row["peak_memory_bytes"] / 1e9,
    }


def format_tables(results: Measured) -> str:
    """Every part as a table."""
    return "\n\n".join(f"{part}\n{_as_text(summary(part, rows))}" for part, rows in results.items() if rows)


def _as_text(rows: Sequence[Row]) -> str:
    fields = list(dict.fromkeys(field for row in rows for field in row))
    lines = [[field.replace("_", " ") for field in fields]]
    lines += [[_cell(row.get(field, "")) for field in fields] for row in rows]
    return aligned(lines, num_left=len(fields))


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_report(out_dir: Path, about: Row, results: Measured, text: str) -> None:
    """Write `bench.json` with every repeat, `table.txt`, and a CSV of medians for each part.

    Args:
        out_dir: existing folder.
        about: machine and settings.
        results: what was measured.
        text: from `format_tables`.
    """
    write_json(out_dir / "bench.json", {**about, "results": results})
    write_atomically(out_dir / "table.txt", f"{about['machine']['device']}\n\n{text}\n".encode())
    for part, measured in results.items():
        if rows := summary(part, measured):
            write_atomically(out_dir / f"{part}.csv", format_csv(rows))
