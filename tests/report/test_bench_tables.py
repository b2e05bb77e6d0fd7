"""Tables of benchmarks against values computed by hand."""

from __future__ import annotations

import pytest

from drq_sn.report.bench_tables import bench_rows, write_bench
from tests.builders import read_csv


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


def test_rows_are_medians_and_ratios_to_the_agents_first_row():
    rows = bench_rows([
        bench_row("drqv2", "mlp2", 10, 20, 40),
        bench_row("drqv2", "modern4", 40, 20, 80),  # 4, 1 and 2 times the first row's
        bench_row("drq", "mlp2", 100, 100, 100),
        bench_row("drq", "modern4", error="out of memory"),
        bench_row("dqn", "small", 5, error="out of memory"),
        bench_row("dqn", "large", 10, 10, 10),  # has nothing to be compared with
    ])  # fmt: skip
    times = [[row.get(f"ms_per_update{end}") for end in ("", "_min", "_max")] for row in rows]
    assert times == [[20, 10, 40], [40, 20, 80], [100] * 3, [None] * 3, [None] * 3, [10] * 3]
    assert [row.get("training_ratio") for row in rows] == [1, 2, 1, None, None, None]
    assert [row.get("acting_ratio") for row in rows] == [1, 2, 1, None, None, None]
    assert (rows[0]["samples_per_second"], rows[0]["share_of_matmul"]) == (400, pytest.approx(0.05))
    assert rows[3] == {"agent": "drq", "head": "modern4", "batch_size": 4, "error": "out of memory"}


def test_every_part_is_a_table(tmp_path):
    results = {
        "updates": [bench_row("drq", "mlp2", 2000)],
        "rendering": [{"task": "t", "ms_per_step": 3.14159}],
        "training": [{"agent": "drq", "frames_per_second": [10.0, 20.0, 60.0]}],
    }
    text = write_bench(tmp_path, {"machine": {"device": "a machine"}, "results": results})
    assert {"a machine", "| t    |        3.14 |"} <= set((tmp_path / "table.txt").read_text().splitlines())
    assert "ms per update" in text
    (row,) = read_csv(tmp_path / "training.csv")
    assert (row["frames_per_second_of_one"], row["frames_per_second_of_all"]) == ("20", "90")
    assert read_csv(tmp_path / "updates.csv")[0]["ms_per_update"] == "2000"
