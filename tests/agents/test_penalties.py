"""The gradient penalty against derivatives by hand."""

from __future__ import annotations

import pytest
import torch

from drq_sn.agents.penalties import GradientPenalty, NoPenalty
from drq_sn.validation import InvalidInput


def test_the_penalty_of_linear_values_by_hand():
    """Q_h = w_h . (x / 255): ||dQ_h/ds|| = ||w_h||, so the penalty is c sum_h (||w_h|| - k)^2."""
    w = torch.stack([torch.full((1, 2, 2), 1.5), torch.full((1, 2, 2), 0.5)]).requires_grad_()  # norms 3 and 1
    q_function = lambda obs: torch.stack([(obs / 255 * w_h).flatten(1).sum(1) for w_h in w])  # noqa: E731
    obs = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8)
    penalty = GradientPenalty(coefficient=10.0, norm=2.0)(q_function, obs)
    assert float(penalty.detach()) == pytest.approx(10 * (1 + 1), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, w)
    assert torch.allclose(gradient[0], torch.full((1, 2, 2), 10 * 2 * (3 - 2) * 1.5 / 3), rtol=1e-4)


def test_a_gradient_of_zero_can_be_penalized():
    w = torch.zeros(2, 1, 2, 2, requires_grad=True)
    q_function = lambda obs: torch.stack([(obs * w_h).flatten(1).sum(1) for w_h in w])  # noqa: E731
    (gradient,) = torch.autograd.grad(GradientPenalty()(q_function, torch.ones(3, 1, 2, 2)), w)
    assert torch.isfinite(gradient).all()


def test_no_penalty_is_zero():
    assert torch.equal(NoPenalty()(lambda obs: obs, torch.ones(1)), torch.zeros(()))


@pytest.mark.parametrize("name", ["agent=drq", "agent=drqv2"])
def test_agents_report_it_apart_from_their_loss(agent_of, batch, name):
    plain, penalized = agent_of(name), agent_of(name, "penalty=gradient")
    metrics = []
    for agent in (plain, penalized):
        torch.manual_seed(1)
        metrics.append(agent.update(batch, 0))
        assert set(metrics[-1]) == set(agent.metric_names)
    assert torch.equal(metrics[0]["critic_loss"], metrics[1]["critic_loss"])
    assert float(metrics[1]["gradient_penalty"]) > 0


@pytest.mark.parametrize("name", ["agent=drq", "agent=drqv2"])
def test_it_flattens_the_critic(agent_of, batch, name):
    """After the same updates, with a heavy penalty asking for flat values, dQ/ds is smaller than without."""

    def slope(*overrides):
        agent = agent_of(name, "head=mlp2", "normalizer=none", "lr=1e-3", *overrides)
        for step in range(0, 60, 2):
            agent.update(batch, step)
        pixels = batch.obs.float().requires_grad_()
        q = agent.critic(agent.encoder(pixels), batch.action)
        return float(torch.autograd.grad(q.sum(), pixels)[0].flatten(1).norm(dim=1).mean())

    assert slope("penalty=gradient", "penalty.norm=0", "penalty.coefficient=100") < 0.5 * slope()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"coefficient": -1}, "penalty.coefficient must be a number >= 0, got -1"), ({"norm": "a"}, "penalty.norm")],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InvalidInput, match=message):
        GradientPenalty(**options)
