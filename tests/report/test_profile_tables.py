"""Tables of a profile against numbers worked out by hand."""

from __future__ import annotations

import csv
import json

import pytest

from drq_sn.report.profile_tables import format_tables, table_rows, write_report
from drq_sn.report.published import TABLE3, read_table

PAPER = {"mlp2": {"training_time_ms": 100.0}, "mlp4": {"training_time_ms": 110.0}}


def measurement(head, normalizer, run, milliseconds, megabytes=None):
    details = {
        "acting_memory": {"allocated_bytes": (megabytes or 0) * 1e6},
        "training_memory": {"allocated_bytes": 2e9},
        "flops_per_update": 1e9,
        "phase_seconds": {"encode": 0.001, "critic": 0.002},
    }
    times = {"training_seconds": milliseconds / 1e3, "acting_seconds": 0.001, "matmul_flops_per_second": 1e12}
    return {"head": head, "normalizer": normalizer, "run": run, **times, **(details if megabytes else {})}


RUNS = [
    measurement("mlp2", "none", 1, 10, 50),
    measurement("mlp4", "none", 1, 30, 90),
    measurement("mlp4", "spectral", 1, 33, 91),
    measurement("mlp2", "none", 2, 20),
    measurement("mlp4", "none", 2, 30),
    {"head": "mlp4", "normalizer": "spectral", "run": 2, "error": "out of memory"},
]


def test_means_ratios_and_the_papers():
    mlp2, mlp4, spectral = table_rows(RUNS, PAPER)
    assert (mlp2["training_time_ms"], mlp2["num_runs"]) == (15, 2)
    assert mlp2["training_time_ms_sd"] == pytest.approx(7.0710678)
    assert mlp4["training_time_ms_ratio"] == 2
    assert mlp4["training_time_ms_ratio_paper"] == pytest.approx(1.1)
    assert spectral["training_time_ms_ratio_plain"] == pytest.approx(1.1)
    assert spectral["training_time_ms_paper"] is None
    assert (spectral["num_runs"], spectral["error"]) == (1, "out of memory")
    assert (mlp4["acting_memory_mb"], mlp4["training_memory_gb"]) == (90, 2)
    assert mlp2["share_of_matmul"] == pytest.approx((1e9 / 0.010 / 1e12 + 1e9 / 0.020 / 1e12) / 2)


def test_without_mlp2_there_are_no_ratios_to_it():
    (row,) = table_rows(RUNS[1:2], PAPER)
    assert row["training_time_ms_ratio"] is None
    assert "mlp4  none" in format_tables([row], RUNS[1:2])


def test_the_report_is_written_whole(tmp_path):
    out, traces = tmp_path / "out", tmp_path / "traces"
    out.mkdir()
    traces.mkdir()
    (traces / "trace_mlp2_none.json.gz").write_bytes(b"x")
    about = {"agent": "drq", "machine": {"device": "a machine"}, "settings": {"batch_size": 8}}
    rows = table_rows(RUNS, PAPER)
    text = format_tables(rows, RUNS)
    write_report(out, about, rows, text, RUNS, traces)
    assert "mlp4 spectral: a run failed: out of memory" in text
    assert {p.name for p in out.iterdir()} == {
        "table.csv", "phases.csv", "profile.json", "table.txt", "profile.png", "trace_mlp2_none.json.gz"
    }  # fmt: skip
    assert json.loads((out / "profile.json").read_text())["measurements"] == RUNS
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [row["training_time_ms"] for row in rows] == ["15", "30", "33"]


def test_the_papers_table_is_transcribed():
    table = read_table(TABLE3, "head")
    assert [row["acting_memory_mb"] for row in table.values()] == [50.16, 93.26, 112.66, 247.04]
    assert table["modern4"]["training_time_ms"] == 125.21
    assert table["mlp2"]["training_memory_gb"] == 4.05
