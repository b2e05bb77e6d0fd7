"""Summaries, tables and files of fits to a fixed replay."""

from __future__ import annotations

import math

from drq_sn.report import depth_figure
from tests.builders import read_csv

ROWS = [
    {"normalizer": n, "depth": d, "seed": s, "update": u, "grad_norm_max/actor": g, "grad_norm_max/critic": 1.0,
     "grad_norm/actor": 0.0, "action_gradient_mean": a, "sigma/critic.q1.first": 2.0, "sigma/critic.q2.last": 5.0,
     "sigma/critic.q2.deeper": "", "sigma/actor.head.first": 99.0, "effective_rank/critic": r}
    for n, d, s, u, g, a, r in [("none", 1, 1, 10, 4.0, 7.0, 3.0), ("none", 1, 1, 20, 2.0, 0.5, 10.0),
                                ("none", 1, 2, 10, 1.0, 7.0, 3.0), ("none", 1, 2, 20, 0.5, 8.0, 20.0)]
]  # fmt: skip


def test_summaries_take_the_largest_gradient_and_the_last_of_everything_else():
    first, second = depth_figure.summaries(ROWS)
    assert (first["grad_norm_max/actor"], first["action_gradient_mean"], first["effective_rank/critic"]) == (
        4.0,
        0.5,
        10.0,
    )
    assert (first["sigma_max/critic"], first["updates"]) == (5.0, 20)
    assert (second["seed"], second["grad_norm_max/actor"]) == (2, 1.0)


def test_means_are_geometric_but_for_ranks():
    panels = depth_figure.depth_panels(depth_figure.summaries(ROWS))
    cells = [depth_figure.depth_table(panel, [1, 2]).rows for panel in panels]
    assert cells == [[("none", mean, "nan")] for mean in ("2", "1", "1e-16", "2", "5", "15")]  # 0 is below the axis


def test_a_diverged_seed_makes_no_mean(tmp_path):
    diverged = [
        {**ROWS[0], "seed": 3, "grad_norm_max/actor": "nan", "action_gradient_mean": "", "effective_rank/critic": ""}
    ]
    late = depth_figure.summaries([{**ROWS[0], "seed": 3}, {**diverged[0], "update": 20}])
    assert math.isnan(late[0]["grad_norm_max/actor"])  # also where it went well before
    text = depth_figure.write(tmp_path, [*ROWS, *diverged])
    assert text.count("| none | nan |") == 3
    assert {p.name for p in tmp_path.iterdir()} == {"offline.csv", "depth.csv", "depth.pdf", "depth.svg"}
    assert len(read_csv(tmp_path / "depth.csv")) == 3
