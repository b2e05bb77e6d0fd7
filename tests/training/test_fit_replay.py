"""Fits, and their summaries, by hand."""

from __future__ import annotations

import csv
import math

import pytest
import torch

from drq_sn.report import depth_figure
from drq_sn.training.fit_replay import fit


@pytest.mark.parametrize("name", ["agent=drq", "agent=drqv2"])
def test_a_fit_is_what_updates_do(agent_of, batch, name):
    seen = []
    agent, other = agent_of(name), agent_of(name)
    torch.manual_seed(1)
    rows = list(
        fit(agent, lambda i: seen.append(i) or batch, batch, num_updates=5, steps_per_update=2, log_every_updates=2)
    )
    assert seen == [0, 1, 2, 3, 4]
    assert [row["update"] for row in rows] == [2, 4, 5]
    torch.manual_seed(1)
    metrics = [other.update(batch, 2 * i) for i in range(2)]
    assert rows[0]["grad_norm/critic"] == pytest.approx(sum(float(m["grad_norm/critic"]) for m in metrics) / 2)
    assert rows[0]["grad_norm_max/critic"] == pytest.approx(max(float(m["grad_norm/critic"]) for m in metrics))
    assert {"effective_rank/critic", "action_gradient_mean", "sigma/critic.q1.first"} <= set(rows[0])


def test_diagnostics_do_not_change_a_fit(agent_of, batch):
    weights = []
    for every in (1, 4, 100):
        agent = agent_of()
        torch.manual_seed(1)
        list(fit(agent, lambda _: batch, batch, num_updates=4, steps_per_update=2, log_every_updates=every))
        weights.append(agent.networks.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    torch.testing.assert_close(weights[0], weights[2], rtol=0, atol=0)


def test_a_divergence_ends_a_fit(agent_of, batch):
    rows = list(
        fit(agent_of("lr=1e30"), lambda _: batch, batch, num_updates=50, steps_per_update=2, log_every_updates=5)
    )
    assert rows[-1]["update"] < 50
    assert "effective_rank/critic" not in rows[-1]


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
    assert len(list(csv.DictReader((tmp_path / "depth.csv").read_text().splitlines()))) == 3
