"""Tables of profiles and benchmarks against values computed by hand."""

from __future__ import annotations

import json

import pytest

from drq_sn.report.profile_tables import bench_rows, format_profile, table_rows, write_bench, write_profile
from drq_sn.report.published import TABLE3, read_table
from tests.builders import ROOT, read_csv

PAPER = {"mlp2": {"training_time_ms": 100.0}, "mlp4": {"training_time_ms": 110.0}}


def details(head, normalizer, megabytes):
    return {
        "head": head,
        "normalizer": normalizer,
        "round": 0,
        "acting_memory": {"allocated_bytes": megabytes * 1e6},
        "training_memory": {"allocated_bytes": 2e9},
        "flops_per_update": 1e9,
        "phase_seconds": {"encode": 0.001, "critic": 0.002},
    }


def sample(head, normalizer, number, milliseconds):
    times = {"training_seconds": milliseconds / 1e3, "acting_seconds": 0.001, "matmul_flops_per_second": 1e12}
    return {"head": head, "normalizer": normalizer, "round": number, **times}


MEASUREMENTS = [
    details("mlp2", "none", 50),
    details("mlp4", "none", 90),
    details("mlp4", "spectral", 91),
    sample("mlp2", "none", 1, 10),
    sample("mlp4", "none", 1, 30),
    sample("mlp4", "spectral", 1, 33),
    sample("mlp2", "none", 2, 20),
    sample("mlp4", "none", 2, 30),
    {"head": "mlp4", "normalizer": "spectral", "round": 2, "error": "out of memory"},
]


def test_means_ratios_and_the_papers():
    mlp2, mlp4, spectral = table_rows(MEASUREMENTS, PAPER)
    assert (mlp2["training_time_ms"], mlp2["num_rounds"]) == (15, 2)
    assert mlp2["training_time_ms_sd"] == pytest.approx(7.0710678)
    assert mlp4["training_time_ms_ratio"] == 2
    assert mlp4["training_time_ms_ratio_paper"] == pytest.approx(1.1)
    assert spectral["training_time_ms_ratio_plain"] == pytest.approx(1.1)
    assert spectral["training_time_ms_paper"] is None
    assert (spectral["num_rounds"], spectral["error"]) == (1, "out of memory")
    assert (mlp4["acting_memory_mb"], mlp4["training_memory_gb"]) == (90, 2)
    assert mlp2["share_of_matmul"] == pytest.approx((1e9 / 0.010 / 1e12 + 1e9 / 0.020 / 1e12) / 2)


def test_details_alone_are_a_row_without_times():
    (row,) = table_rows(MEASUREMENTS[:1], PAPER)
    assert (row["num_rounds"], row["training_time_ms"], row["share_of_matmul"]) == (0, None, None)
    assert row["acting_memory_mb"] == 50


def test_without_mlp2_there_are_no_ratios_to_it():
    (row,) = table_rows(MEASUREMENTS[1:2], PAPER)
    assert row["acting_memory_mb_ratio"] is None
    assert "mlp4  none" in format_profile([row], MEASUREMENTS[1:2])


def test_a_profile_is_written_whole(tmp_path):
    settings = {"agent": "drq", "machine": {"device": "a machine"}, "settings": {"batch_size": 8}}
    text = write_profile(tmp_path, {**settings, "measurements": MEASUREMENTS})
    assert "mlp4 spectral: failed: out of memory" in text
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "phases.csv", "table.txt", "profile.png"}
    assert [row["training_time_ms"] for row in read_csv(tmp_path / "table.csv")] == ["15", "30", "33"]
    assert [row["critic"] for row in read_csv(tmp_path / "phases.csv")] == ["0.002"] * 3


def test_the_papers_table_is_transcribed():
    table = read_table(TABLE3, "head")
    assert [row["acting_memory_mb"] for row in table.values()] == [50.16, 93.26, 112.66, 247.04]
    assert table["modern4"]["training_time_ms"] == 125.21
    assert table["mlp2"]["training_memory_gb"] == 4.05


def bench_row(agent, head, *milliseconds, **more):
    samples = [
        {
            "training_seconds": ms / 1e3,
            "acting_seconds": ms / 1e4,
            "sampling_seconds": 0.01,
            "matmul_flops_per_second": 1e12,
        }
        for ms in milliseconds
    ]
    return {"agent": agent, "head": head, "batch_size": 4, "flops_per_update": 1e9, "rounds": samples, **more}


def test_bench_rows_are_medians_and_ratios_to_the_agents_first_row():
    rows = bench_rows([
        bench_row("drqv2", "mlp2", 10, 20, 40),
        bench_row("drqv2", "modern4", 40, 20, 80),  # 4, 1 and 2 times the first row's
        bench_row("drq", "mlp2", 100, 100, 100),
        bench_row("drq", "modern4", error="out of memory"),
    ])  # fmt: skip
    times = [[row.get(f"ms_per_update{end}") for end in ("", "_min", "_max")] for row in rows]
    assert times == [[20, 10, 40], [40, 20, 80], [100, 100, 100], [None, None, None]]
    assert [row.get("training_ratio") for row in rows] == [1, 2, 1, None]
    assert [row.get("acting_ratio") for row in rows] == [1, 2, 1, None]
    assert (rows[0]["samples_per_second"], rows[0]["share_of_matmul"]) == (400, pytest.approx(0.05))
    assert rows[3] == {"agent": "drq", "head": "modern4", "batch_size": 4, "error": "out of memory"}


def test_published_results_are_still_read(tmp_path):
    (path,) = ROOT.glob("results/bench/*/bench.json")
    write_bench(tmp_path, json.loads(path.read_text()))
    for part, column in (
        ("updates", "ms_per_update"),
        ("scaling", "ms_per_update"),
        ("rendering", "ms_per_step"),
        ("training", "frames_per_second_of_all"),
    ):
        published, written = (read_csv(folder / f"{part}.csv") for folder in (path.parent, tmp_path))
        assert [float(row[column]) for row in written] == [pytest.approx(float(row[column])) for row in published]
    (path,) = ROOT.glob("results/profile/*/*/profile.json")
    write_profile(tmp_path, json.loads(path.read_text()))
    published, written = read_csv(path.with_name("table.csv")), read_csv(tmp_path / "table.csv")
    for column in ("training_memory_gb", "acting_memory_mb", "training_time_ms_ratio", "share_of_matmul"):
        assert [float(row[column]) for row in written] == [pytest.approx(float(row[column])) for row in published]
