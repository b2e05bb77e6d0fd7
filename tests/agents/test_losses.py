"""Losses against arithmetic by hand."""

import pytest
import torch

from drq_sn.agents import losses

Q = torch.tensor([[1.0, 5.0], [3.0, 4.0]])  # heads x batch; minima 1 and 4


def test_td_target():
    y = losses.td_target(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.tensor([10.0, 10.0]))
    assert y.tolist() == [6.0, 2.0]


def test_clipped_double_q():
    assert losses.clipped_double_q(Q).tolist() == [1.0, 4.0]


def test_soft_value():
    value = losses.soft_value(Q, torch.tensor([-2.0, 1.0]), torch.tensor(0.1))
    assert value.tolist() == pytest.approx([1.2, 3.9])


def test_critic_loss_is_the_sum_over_heads_of_the_mean_over_the_batch():
    # head 1: (1 + 9) / 2, head 2: (9 + 4) / 2 with y = (0, 2)
    assert float(losses.critic_loss(Q, torch.tensor([0.0, 2.0]))) == 11.5


def test_actor_losses():
    assert float(losses.deterministic_actor_loss(Q)) == -2.5
    # mean(0.1 * (-2, 1) - (1, 4)) = (-1.2 - 3.9) / 2
    assert float(losses.soft_actor_loss(Q, torch.tensor([-2.0, 1.0]), torch.tensor(0.1))) == pytest.approx(-2.55)


def test_temperature_loss_moves_the_temperature_alone():
    log_alpha = torch.tensor(0.1).log().requires_grad_()
    log_prob = torch.tensor([-2.0, 1.0], requires_grad=True)
    loss = losses.temperature_loss(log_alpha.exp(), log_prob, target_entropy=-3.0)
    # 0.1 * mean(2 + 3, -1 + 3)
    assert float(loss.detach()) == pytest.approx(0.35)
    loss.backward()
    assert float(log_alpha.grad) == pytest.approx(0.35)  # d exp(x)/dx = exp(x)
    assert log_prob.grad is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.td_target(torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)),
        lambda: losses.critic_loss(Q, torch.zeros(2, 1)),
        lambda: losses.clipped_double_q(torch.zeros(3, 2)),
        lambda: losses.soft_value(Q, torch.zeros(2, 1), torch.tensor(0.1)),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_value_losses():
    """r (1, 2), D (0.99, 0), max Q' (3, 7): y = (3.97, 2); Q = (3, 0)."""
    target = losses.td_target(torch.tensor([1.0, 2.0]), torch.tensor([0.99, 0.0]), torch.tensor([3.0, 7.0]))
    assert target.tolist() == pytest.approx([3.97, 2.0])
    q = torch.tensor([3.0, 0.0])
    assert float(losses.value_loss(q, target, huber=False)) == pytest.approx(2.47045)
    assert float(losses.value_loss(q, target, huber=True)) == pytest.approx(0.985225)


@pytest.mark.parametrize(
    ("reward", "discount", "expected"),
    [
        (0.5, 0.5, [0.0, 0.45, 0.55]),
        (0.3, 0.0, [0.0, 0.7, 0.3]),
        (5.0, 1.0, [0.0, 0.0, 1.0]),
        (0.0, 1.0, [0.2, 0.5, 0.3]),
    ],
)
def test_projection_on_the_atoms(reward, discount, expected):
    probabilities, support = torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([-1.0, 0.0, 1.0])
    projected = losses.project_distribution(probabilities, torch.tensor([reward]), torch.tensor([discount]), support)
    assert projected[0].tolist() == pytest.approx(expected, abs=1e-7)


def test_the_gradient_of_the_distribution_loss():
    """(softmax - m) / B."""
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    target = torch.softmax(torch.randn(4, 3, dtype=torch.float64), -1)
    losses.distribution_loss(logits, target).backward()
    assert torch.allclose(logits.grad, (torch.softmax(logits.detach(), -1) - target) / 4)
