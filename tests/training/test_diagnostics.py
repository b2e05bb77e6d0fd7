"""Diagnostics against hand computation, SVD and finite differences; and that they do not affect training."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from drq_sn.agents import losses
from drq_sn.networks.heads import LayerNormMLPHead, MLPHead, ModernHead
from drq_sn.training.diagnostics import (
    Diagnostics,
    dormant_fraction,
    effective_rank,
    episode_metrics,
    largest_singular_value,
    layer_metrics,
    linear_layers,
    record_activations,
    state_metrics,
)
from drq_sn.types import Episode
from tests.builders import default_dtype

AGENTS = ["agent=drq", "agent=drqv2"]


def episode(rewards, value=0):
    return Episode(np.full((9, 24, 24), value, np.uint8), rewards)


def matrix(singular_values, rows=30):
    left, right = (torch.linalg.qr(torch.randn(rows, len(singular_values)))[0] for _ in range(2))
    return left @ torch.diag(torch.tensor(singular_values)) @ right.T


@pytest.mark.parametrize(
    ("singular_values", "rank"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4),
        ([99.5, 0.5], 1),
        ([98.5, 1.0, 0.5], 2),
        ([50.0, 49.5, 0.5], 2),
        ([60.0, 30.0, 9.5, 0.5], 3),
    ],
)
def test_effective_rank_by_hand(singular_values, rank):
    """The smallest k whose singular values hold 99 % of the sum."""
    assert int(effective_rank(matrix(singular_values).double())) == rank


def test_features_that_are_zero_have_rank_zero():
    assert int(effective_rank(torch.zeros(5, 3))) == 0


def test_dormant_units_by_hand():
    """Activities 4, 0 and 0.05: 2.5 % of their mean is 0.034, so one unit is dormant; with 0.03 for 0.05, two are."""
    hidden = torch.tensor([[4.0, 0.0, 0.05], [4.0, 0.0, 0.05]])
    assert float(dormant_fraction([hidden])) == pytest.approx(1 / 3)
    quiet = torch.tensor([[4.0, 0.0, 0.03]])
    assert float(dormant_fraction([quiet])) == pytest.approx(2 / 3)
    assert float(dormant_fraction([hidden, torch.zeros(2, 1)])) == pytest.approx(
        2 / 4
    )  # a layer that is silent as a whole


@pytest.mark.parametrize("shape", [(200, 100), (16, 3), (1, 64), (512, 256)])
def test_largest_singular_value_is_the_decompositions(shape):
    for seed in range(5):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        assert float(largest_singular_value(weight)) == pytest.approx(float(torch.linalg.svdvals(weight)[0]), rel=1e-5)


@pytest.mark.parametrize("head", [MLPHead(5, 2, 8), ModernHead(5, 2, 8, num_blocks=2), LayerNormMLPHead(5, 2, 8)])
def test_what_is_observed_are_the_features_and_every_relu(head):
    x = torch.randn(4, 5)
    (penultimate,), hidden = record_activations(lambda: head(x), [head])
    assert torch.equal(penultimate, head.features(x))
    assert len(hidden) == {MLPHead: 2, ModernHead: 3, LayerNormMLPHead: 2}[type(head)]
    assert all(float(h.min()) >= 0 for h in hidden)
    assert not any(layer._forward_pre_hooks for layer in head.modules() if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("name", AGENTS)
def test_gradients_of_q_by_finite_differences(agent_of, batch, name):
    with default_dtype(torch.float64):
        agent = agent_of(name, "head=mlp2")
        agent.update(type(batch)(*(f if f.dtype == torch.uint8 else f.double() for f in batch)), 0)
        features = agent.encoder(batch.obs).detach()
        action = agent.mean_action(features).detach()
        q = lambda a: losses.clipped_double_q(agent.critic(features, a))  # noqa: E731
        h = 1e-5
        slopes = [(q(action + h * e) - q(action - h * e)) / (2 * h) for e in torch.eye(2, dtype=torch.float64)]
        norms = torch.stack(slopes).norm(dim=0).detach()
        found = state_metrics(
            agent,
            batch._replace(
                action=batch.action.double(), reward=batch.reward.double(), discount=batch.discount.double()
            ),
        )
        assert float(found["action_gradient_mean"]) == pytest.approx(float(norms.mean()), rel=1e-4)
        assert float(found["action_gradient_max"]) == pytest.approx(float(norms.max()), rel=1e-4)
        # along the steepest direction of one state's pixels, Q changes by no more than smoothness says
        pixels = batch.obs.double().requires_grad_()
        value = losses.clipped_double_q(agent.critic(agent.encoder(pixels), action))
        (slope,) = torch.autograd.grad(value.sum(), pixels)
        steepest = slope.flatten(1).norm(dim=1)
        worst = int(steepest.argmax())
        direction = slope[worst] / steepest[worst]
        moved = batch.obs.double()[worst][None] + 1e-4 * direction
        change = losses.clipped_double_q(agent.critic(agent.encoder(moved), action[worst][None])) - value[worst]
        assert float(found["smoothness"]) == pytest.approx(255 * float(change.detach()) / 1e-4, rel=1e-3)


@pytest.mark.parametrize("name", AGENTS)
def test_the_critics_loss_is_what_an_update_reports(agent_of, batch, name):
    agent = agent_of(name)
    agent.at_step_(0)
    torch.manual_seed(3)
    with torch.no_grad():
        loss = agent.critic_loss(batch)
    torch.manual_seed(3)
    assert float(agent.update(batch, 0)["critic_loss"]) == pytest.approx(
        float(loss), rel=1e-2
    )  # u and v moved in between


def test_layer_metrics_by_hand(agent_of):
    agent = agent_of("agent=drqv2", "lr=2e-3", "lr_schedule=linear", "num_train_frames=800")
    found = layer_metrics(agent, 100)  # of 200 steps
    assert set(found) == {
        f"{kind}/{name}" for kind in ("sigma", "frobenius", "effective_lr") for name in linear_layers(agent)
    }
    weight = agent.critic.q1.blocks[1].expand.weight.detach()
    assert float(found["frobenius/critic.q1.blocks.1.expand"]) == pytest.approx(
        float(torch.linalg.matrix_norm(weight)), rel=1e-5
    )
    assert float(found["effective_lr/critic.q1.blocks.1.expand"]) == pytest.approx(
        1e-3 / float(weight.norm()), rel=1e-5
    )
    assert float(found["sigma/critic.q1.blocks.1.expand"]) == pytest.approx(1.0, rel=1e-3)  # orthogonal
    assert "sigma/actor.trunk.linear" in found


def test_overestimation_by_hand(agent_of, monkeypatch):
    """Returns 1 + 0.5 * 2 + 0.25 * 4 = 3 and 8; Q values 7 and 8 at the two first observations."""
    agent = agent_of("agent=drqv2")
    agent.at_step_(0)  # exploring adds noise of standard deviation 1
    q = torch.tensor([[7.0, 9.0], [7.5, 8.0]])
    actions = []
    monkeypatch.setattr(agent.critic, "forward", lambda features, action: actions.append(action) or q)
    episodes = [episode([1.0, 2.0, 4.0]), episode([8.0], 255)]
    found = episode_metrics(agent, episodes, gamma=0.5)
    assert np.array_equal(actions[0], agent.predict(np.stack([each.first_obs for each in episodes])))
    assert {name: float(value) for name, value in found.items()} == {
        "q_start": 7.5,
        "discounted_return": 5.5,
        "overestimation": 2.0,
    }


@pytest.mark.parametrize("name", AGENTS)
def test_diagnostics_change_nothing(agent_of, batch, name):
    """Random numbers, weights, optimizers and the next update are the same with and without diagnostics."""
    results = []
    for looks in (False, True):
        agent = agent_of(name, "lr_schedule=cosine")
        agent.update(batch, 0)
        if looks:
            diagnostics = Diagnostics(agent, 0.99)
            before = copy.deepcopy(agent.state_dict())
            numbers = diagnostics(7, batch, [episode([1.0])])
            torch.testing.assert_close(agent.state_dict()["networks"], before["networks"], rtol=0, atol=0)
            assert set(numbers) == set(diagnostics.names)
            assert all(np.isfinite(value) for value in numbers.values())
        agent.update(batch, 2)
        results.append((agent.state_dict(), torch.get_rng_state()))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_before_there_are_transitions_states_are_left_out(agent_of):
    numbers = Diagnostics(agent_of(), 0.99)(0, None, [episode([1.0])])
    assert "smoothness" not in numbers
    assert {"seconds", "q_start", "sigma/critic.q1.first"} <= set(numbers)


@pytest.mark.parametrize("head", ["mlp2", "mlp_ln", "simba", "bronet", "d2rl"])
@pytest.mark.parametrize("normalizer", ["nap", "div_out", "weight_norm"])
def test_every_head_and_normalizer_has_diagnostics(agent_of, batch, head, normalizer):
    agent = agent_of(f"head={head}", f"normalizer={normalizer}")
    numbers = Diagnostics(agent, 0.99)(0, batch, [episode([1.0])])
    assert set(numbers) == set(Diagnostics(agent, 0.99).names)
    assert 0 < numbers["effective_rank/critic"] <= 8  # states
    assert 0 <= numbers["dormant/actor"] < 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["head=modern2", "head.actor.num_blocks=0", "head.critic.num_blocks=0", "normalizer=none"],
        ["head=simba", "head.critic.num_blocks=0"],
    ],
)
def test_heads_without_blocks_have_diagnostics(agent_of, batch, overrides):
    numbers = Diagnostics(agent_of(*overrides), 0.99)(0, batch, [episode([1.0])])
    assert np.isfinite(numbers["dormant/critic"]) == (overrides[0] != "head=simba")  # SimBa without blocks has no ReLU


def test_what_is_not_finite_is_reported_as_such(agent_of, batch):
    agent = agent_of("normalizer=none")
    with torch.no_grad():
        agent.critic.q1.blocks[0].expand.weight.fill_(torch.inf)
    numbers = Diagnostics(agent, 0.99)(0, batch, [episode([1.0])])
    assert np.isnan(numbers["effective_rank/critic"])
    assert np.isnan(numbers["sigma/critic.q1.blocks.0.expand"])
    assert np.isfinite(numbers["effective_rank/actor"])


def test_the_gains_of_weight_normalization_count(agent_of):
    agent = agent_of("normalizer=weight_norm")
    name = "sigma/critic.q1.blocks.0.expand"
    before = float(layer_metrics(agent, 0)[name])
    with torch.no_grad():
        agent.critic.q1.blocks[0].expand.gain.mul_(100.0)
    assert float(layer_metrics(agent, 0)[name]) == pytest.approx(100 * before, rel=1e-3)
