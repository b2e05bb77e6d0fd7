"""Fits to a fixed replay."""

from __future__ import annotations

import pytest
import torch

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
