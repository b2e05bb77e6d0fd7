"""DQN and C51: actions, updates and the target network."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from drq_sn.agents.dqn import DQN, QComponents
from drq_sn.agents.returns import CategoricalReturn, ExpectedReturn
from drq_sn.agents.runtime import Eager
from drq_sn.networks.normalizers import (
    DivGrad,
    DivOut,
    MulEps,
    NormalizeAndProject,
    Spectral,
    Unnormalized,
    power_iteration,
)
from drq_sn.networks.normalizers.base import conv_input_sizes
from drq_sn.networks.normalizers.power_iteration import tracked_layers
from drq_sn.networks.q_network import QNetwork
from drq_sn.training.diagnostics import Diagnostics
from drq_sn.training.schedules import Constant, Linear
from drq_sn.types import Batch, Episode
from drq_sn.validation import InvalidInput
from tests.networks.normalizers.oracles import convolution_matrix

OBS_SHAPE, NUM_ACTIONS = (4, 10, 10), 6
NORMALIZERS = [Unnormalized, Spectral, DivOut, DivGrad, MulEps, NormalizeAndProject]


def make_agent(returns=ExpectedReturn, normalizer=Unnormalized, epsilon=0.0, eval_epsilon=0.0, lr=1e-3, period=100):
    torch.manual_seed(0)
    components = QComponents(
        obs_shape=OBS_SHAPE,
        num_actions=NUM_ACTIONS,
        normalizer=normalizer(),
        lr=lr,
        lr_schedule=Constant(1.0),
        runtime=Eager(),
        device="cpu",
    )
    return DQN(
        components,
        q_network=functools.partial(QNetwork, channels=[4, 4], hidden=8),
        returns=returns(),
        adam_eps=3.125e-4,
        epsilon_schedule=Constant(epsilon),
        eval_epsilon=eval_epsilon,
        copy_target_every_steps=period,
    )


def q_batch(size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = functools.partial(torch.randint, generator=generator)
    return Batch(
        obs=draw(0, 2, (size, *OBS_SHAPE), dtype=torch.uint8),
        action=draw(0, NUM_ACTIONS, (size, 1)),
        reward=torch.rand(size, generator=generator),
        discount=torch.full((size,), 0.99),
        next_obs=draw(0, 2, (size, *OBS_SHAPE), dtype=torch.uint8),
    )


def test_actions_are_greedy_or_uniform():
    obs = q_batch(1).obs[0]
    agent = make_agent(epsilon=1.0)
    best = int(agent.q_values(obs[None])[0].argmax())
    actions = [agent.act(obs.numpy(), step=0, explore=True) for _ in range(600)]
    assert {(action.shape, action.dtype) for action in actions} == {((), np.dtype(np.int64))}
    counts = np.bincount(actions, minlength=NUM_ACTIONS)
    assert counts.min() > 60
    assert {int(agent.act(obs.numpy(), step=0, explore=False)) for _ in range(50)} == {best}
    assert agent.act(obs.numpy(), step=0, explore=False).dtype == np.int64
    agent = make_agent(eval_epsilon=1.0)
    assert len({int(agent.act(obs.numpy(), step=0, explore=False)) for _ in range(50)}) > 1


def test_exploration_follows_its_schedule():
    agent, obs = make_agent(), q_batch(1).obs[0].numpy()
    agent.epsilon_schedule = Linear(1.0, 0.0, 100)
    actions = [{int(agent.act(obs, step, explore=True)) for _ in range(50)} for step in (0, 100)]
    assert len(actions[0]) > 1
    assert actions[1] == {int(agent.act(obs))}
    assert float(agent.update(q_batch(), step=50)["epsilon"]) == 0.5


def test_probabilities_and_atoms_are_checked():
    with pytest.raises(InvalidInput, match=r"agent.epsilon_schedule at step 0 must be .*<= 1"):
        make_agent(epsilon=2.0)
    with pytest.raises(InvalidInput, match=r"agent.returns.v_max must be"):
        CategoricalReturn(51, 1.0, 1.0)


def test_values_of_a_distribution_are_its_means():
    agent = make_agent(functools.partial(CategoricalReturn, 3, -1.0, 1.0))
    obs = q_batch(2).obs
    probabilities = torch.softmax(agent.q_network(obs).view(2, NUM_ACTIONS, 3), -1)
    expected = probabilities[..., 2] - probabilities[..., 0]
    assert torch.allclose(agent.q_values(obs), expected, atol=1e-6)


@pytest.mark.parametrize("returns", [ExpectedReturn, CategoricalReturn])
def test_q_values_learn_rewards_that_end_episodes(returns):
    agent, batch = make_agent(returns, lr=1e-2), q_batch()._replace(discount=torch.zeros(8))
    for step in range(1, 200):
        agent.update(batch, step)
    q = agent.q_values(batch.obs).gather(1, batch.action)[:, 0]
    assert torch.allclose(q, batch.reward, atol=0.1)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_every_normalizer_learns_and_reports(normalizer):
    agent = make_agent(normalizer=normalizer)
    before = {name: p.clone() for name, p in agent.q_network.named_parameters()}
    metrics = agent.update(q_batch(), step=1)
    assert set(metrics) == set(agent.metric_names)
    assert all(torch.isfinite(value) and value.ndim == 0 for value in metrics.values())
    assert all(not torch.equal(p, before[name]) for name, p in agent.q_network.named_parameters())
    assert agent.is_finite()


def test_an_update_iterates_once_and_acting_never(monkeypatch):
    agent = make_agent(normalizer=functools.partial(Spectral, layers=[-2, -3]))
    calls = []
    monkeypatch.setattr(
        power_iteration, "iterate_together_", lambda layers, n: calls.extend((layer, n) for layer in layers)
    )
    agent.act(q_batch(1).obs[0].numpy(), step=0, explore=True)
    assert calls == []
    agent.update(q_batch(), step=1)
    tracked = [*tracked_layers(agent.q_network).values(), *tracked_layers(agent.q_network_target).values()]
    assert calls == [(layer, 1) for layer in tracked]


@pytest.mark.parametrize("returns", [ExpectedReturn, CategoricalReturn])
def test_the_critic_loss_is_that_of_the_next_update(returns):
    agent = make_agent(returns)
    agent.update(q_batch(seed=1), step=1)  # now online and target networks differ
    assert float(agent.critic_loss(q_batch()).detach()) == float(agent.update(q_batch(), step=2)["critic_loss"])


@pytest.mark.parametrize("returns", [ExpectedReturn, CategoricalReturn])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_diagnostics_cover_every_layer_and_change_nothing(returns, normalizer):
    agent = make_agent(returns, normalizer)
    diagnostics, state = Diagnostics(agent, 0.99), torch.get_rng_state()
    values = diagnostics(0, q_batch(32), [Episode(q_batch(1).obs[0].numpy(), [1.0, 2.0])])
    assert set(values) == set(diagnostics.names)
    assert all(np.isfinite(value) for value in values.values())
    assert sum(name.startswith("sigma/") for name in values) == 4
    if normalizer is Unnormalized:
        norm = torch.linalg.svdvals(convolution_matrix(agent.q_network.convs[1], (8, 8)))[0]
        assert values["sigma/q_network.convs.1"] == pytest.approx(float(norm), rel=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


def test_input_sizes_are_measured_on_the_networks_device():
    network = QNetwork(OBS_SHAPE, NUM_ACTIONS, [4, 4], 8).to("meta")  # stands in for a GPU
    assert list(conv_input_sizes(network, OBS_SHAPE).values()) == [(10, 10), (8, 8)]


def test_smoothness_is_the_largest_gradient_of_the_best_actions_value():
    agent, batch = make_agent(), q_batch(5)
    values = Diagnostics(agent, 0.99)(0, batch, [Episode(batch.obs[0].numpy(), [1.0])])
    norms = []
    for obs in batch.obs.float():
        pixels = obs[None].requires_grad_()
        agent.q_values(pixels).max().backward()
        norms.append(float(pixels.grad.norm()))
    assert values["smoothness"] == pytest.approx(max(norms), rel=1e-5)


def test_it_has_no_encoder_to_start_from():
    with pytest.raises(InvalidInput, match="init_networks must be all: DQN has no encoder"):
        make_agent().initialize_(make_agent().networks, "encoder")
