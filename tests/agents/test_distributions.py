"""The policies' distributions against torch.distributions and numerical integration."""

import math

import pytest
import torch

from drq_sn.agents import distributions
from tests.builders import default_dtype


@pytest.fixture(autouse=True)
def _double():
    with default_dtype(torch.float64):
        yield


def test_normal_log_prob_equals_torch():
    torch.manual_seed(0)
    value, mean, std = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5, 3) + 0.1
    expected = torch.distributions.Normal(mean, std).log_prob(value).sum(-1)
    assert torch.allclose(distributions.normal_log_prob(value, mean, std), expected, atol=1e-12)


def test_log_std_bounds():
    x = torch.tensor([-1e9, 0.0, 1e9])
    assert distributions.bounded_log_std(x).tolist() == [-10.0, -4.0, 2.0]


def test_squashed_normal_equals_a_change_of_variables():
    mean, log_std, noise = torch.randn(6, 2), torch.randn(6, 2) * 0.3, torch.randn(6, 2)
    action, log_prob = distributions.squashed_normal_sample(mean, log_std, noise)
    before = mean + noise * log_std.exp()
    naive = torch.distributions.Normal(mean, log_std.exp()).log_prob(before) - torch.log(1 - torch.tanh(before) ** 2)
    assert torch.allclose(action, torch.tanh(before))
    assert torch.allclose(log_prob, naive.sum(-1), atol=1e-9)


def test_squashed_normal_density_integrates_to_one():
    mean, log_std = torch.full((4001, 1), 0.3), torch.full((4001, 1), -0.2)
    noise = torch.linspace(-9, 9, 4001)[:, None]
    action, log_prob = distributions.squashed_normal_sample(mean, log_std, noise)
    assert float(torch.trapezoid(log_prob.exp(), action[:, 0])) == pytest.approx(1.0, abs=1e-4)


def test_squashed_normal_stays_finite_far_out():
    action, log_prob = distributions.squashed_normal_sample(
        torch.tensor([[40.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]])
    )
    # log(1 - tanh(41)^2) = 2 log 2 - 2 * 41 up to e^-82
    by_hand = -0.5 - 0.5 * math.log(2 * math.pi) - (2 * math.log(2) - 82)
    assert float(action) == 1.0
    assert float(log_prob) == pytest.approx(by_hand)


def test_squashed_normal_keeps_its_precision_in_float32_where_the_noise_is_small_beside_the_mean():
    mean, log_std, noise = (torch.tensor([[value]], dtype=torch.float32) for value in (50.0, -10.0, 0.5))
    _, log_prob = distributions.squashed_normal_sample(mean, log_std, noise)
    by_hand = -0.125 + 10 - 0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 50)
    assert float(log_prob) == pytest.approx(by_hand, rel=1e-6)


def test_saturation_by_hand():
    pre_tanh = torch.tensor([[0.0, -3.0], [2.0, 1.0]])  # tanh: 0, -0.995, 0.964, 0.762
    metrics = {name: float(value) for name, value in distributions.saturation_metrics(pre_tanh).items()}
    assert metrics == {"actor_preactivation": 1.5, "actor_preactivation_max": 3.0, "actor_saturation": 0.25}


def test_clipped_normal_by_hand():
    mean, std = torch.tensor([[0.0, 0.9, -0.9]]), torch.tensor(0.4)
    noise = torch.tensor([[1.0, 0.5, -2.0]])  # scaled: 0.4, 0.2, -0.8
    limit = 1 - 1e-6
    learning = distributions.clipped_normal_sample(mean, std, noise, noise_clip=0.3)
    acting = distributions.clipped_normal_sample(mean, std, noise, noise_clip=None)
    assert learning.tolist()[0] == pytest.approx([0.3, limit, -limit])
    assert acting.tolist()[0] == pytest.approx([0.4, limit, -limit])


def test_clamping_passes_the_gradient_straight_through():
    x = torch.tensor([0.5, 3.0, -3.0], requires_grad=True)
    distributions.clamp_straight_through(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]
