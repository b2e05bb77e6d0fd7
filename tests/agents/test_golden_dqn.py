"""Updates against the published implementation of DQN and C51 with spectral normalization (Gogianu et al. 2021).

`golden_q_updates.json` holds what it computes in float64 from inputs that are defined here by formula: three updates
each, with a target copy after the second.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from drq_sn.agents.dqn import DQN, QComponents
from drq_sn.agents.returns import CategoricalReturn, ExpectedReturn
from drq_sn.agents.runtime import Eager
from drq_sn.networks.normalizers import DivGrad, Spectral, Unnormalized, power_iteration
from drq_sn.networks.normalizers.power_iteration import TrackedConv2d, tracked_layers
from drq_sn.networks.q_network import QNetwork
from drq_sn.training.schedules import Constant
from drq_sn.types import Batch
from tests.agents.golden import compare_sums, wave
from tests.builders import default_dtype

GOLDEN = json.loads((Path(__file__).parent / "golden_q_updates.json").read_text())
BATCH_SIZE, CHANNELS, NUM_ACTIONS, GAMMA, CONVS, HIDDEN = 4, 4, 6, 0.99, [3, 3], 7
PUBLISHED = functools.partial(Spectral, gradient_through_sigma="linear")
CASES = {
    "dqn": (ExpectedReturn, Unnormalized),
    "dqn_huber": (functools.partial(ExpectedReturn, huber=True), Unnormalized),
    "dqn_sn-2": (ExpectedReturn, functools.partial(PUBLISHED, layers=[-2])),
    "dqn_sn-2_detached": (ExpectedReturn, functools.partial(Spectral, layers=[-2], gradient_through_sigma=False)),
    "dqn_sn-2_max1": (ExpectedReturn, functools.partial(PUBLISHED, layers=[-2], minimum_sigma=1.0)),
    "dqn_sn-2,-3": (ExpectedReturn, functools.partial(PUBLISHED, layers=[-2, -3])),
    "dqn_layerwise_div_grad-2": (
        ExpectedReturn,
        functools.partial(DivGrad, layers=[-2], minimum_sigma=1.0, scope="layer"),
    ),
    "c51": (functools.partial(CategoricalReturn, 5, -2.0, 2.0), Unnormalized),
    "c51_sn-2": (functools.partial(CategoricalReturn, 5, -2.0, 2.0), functools.partial(PUBLISHED, layers=[-2])),
}
NAMES = {"convs.0": "features.0", "convs.1": "features.2", "hidden": "head.0", "last": "head.2"}


def unit(shape, key):
    x = wave(shape, key, 1.0)
    return torch.as_tensor(x / np.linalg.norm(x))


def parameters_of(network):
    """Our parameters under the names of the golden file, without its suffix for normalized weights."""
    layers = {name: network.get_submodule(name) for name in NAMES}
    return {
        f"{NAMES[name]}.{kind}": getattr(layer, kind) for name, layer in layers.items() for kind in ("weight", "bias")
    }


def make_agent(returns, normalizer):
    with default_dtype(torch.float64):
        components = QComponents(
            obs_shape=(CHANNELS, 10, 10),
            num_actions=NUM_ACTIONS,
            normalizer=normalizer(),
            lr=2.5e-4,
            lr_schedule=Constant(1.0),
            runtime=Eager(),
            device="cpu",
        )
        agent = DQN(
            components,
            q_network=functools.partial(QNetwork, channels=CONVS, hidden=HIDDEN),
            returns=returns(),
            adam_eps=3.125e-4,
            epsilon_schedule=Constant(0.0),
            eval_epsilon=0.0,
            copy_target_every_steps=2,
        )
    with torch.no_grad():
        for k, name in enumerate(NAMES):
            layer = plain(agent.q_network).get_submodule(name)
            fan_in = np.prod(layer.weight.shape[1:])
            layer.weight.copy_(torch.as_tensor(wave(tuple(layer.weight.shape), 10 * k, 1.5 / np.sqrt(fan_in))))
            layer.bias.copy_(torch.as_tensor(wave(tuple(layer.bias.shape), 10 * k + 1, 0.05)))
            if isinstance(layer, TrackedConv2d):
                layer.v.copy_(unit(tuple(layer.v.shape), 400 + k))
            elif hasattr(layer, "u"):
                layer.u.copy_(unit(tuple(layer.u.shape), 400 + k))
    agent.q_network_target.load_state_dict(agent.q_network.state_dict())
    return agent


def plain(network):
    """The Q network, inside a scheduler's wrapper or not."""
    return getattr(network, "head", network)


def q_batch(update):
    key, alive = 200 + 10 * update, np.ones(BATCH_SIZE)
    alive[update % BATCH_SIZE] = 0.0
    obs, next_obs = (wave((BATCH_SIZE, CHANNELS, 10, 10), k, 1.0) > 0.5 for k in (key, key + 1))
    return Batch(
        obs=torch.as_tensor(obs.astype(np.uint8)),
        action=torch.as_tensor((np.arange(BATCH_SIZE) * 5 + update) % NUM_ACTIONS)[:, None],
        reward=torch.as_tensor(wave((BATCH_SIZE,), key + 2, 1.5)),
        discount=torch.as_tensor(alive * GAMMA),
        next_obs=torch.as_tensor(next_obs.astype(np.uint8)),
    )


@torch.no_grad()
def iterate_in_the_published_order(layers, num_iterations):
    """Linear layers from u to v to u, convolutions from v, on the input side, to u to v; ours all go from u."""
    for layer in layers:
        for _ in range(num_iterations):
            if isinstance(layer, TrackedConv2d):
                layer.u.copy_(power_iteration.unit(layer.product(layer.v)))
            layer.v.copy_(power_iteration.unit(layer.transposed_product(layer.u)))
            if not isinstance(layer, TrackedConv2d):
                layer.u.copy_(power_iteration.unit(layer.product(layer.v)))


@pytest.mark.parametrize("case", CASES)
def test_float64_updates_equal_the_published_implementation(case, monkeypatch):
    monkeypatch.setattr(power_iteration, "iterate_together_", iterate_in_the_published_order)
    agent = make_agent(*CASES[case])
    for update, expected in enumerate(GOLDEN[case]["updates"]):
        metrics = agent.update(q_batch(update), step=update + 1)
        assert float(metrics["critic_loss"]) == pytest.approx(expected["loss"], rel=1e-9)
        if "div_grad" not in case:  # which divides the gradients in place
            compare_norms(agent, expected["grad_norms"])
        if update == 0:
            compare_sigmas(agent, expected["sigma"])
    weights = {key.removesuffix("_orig"): sums for key, sums in GOLDEN[case]["weights"].items()}
    compare_sums(parameters_of(plain(agent.q_network)), weights, rtol=1e-9)


def compare_norms(agent, expected):
    ours = parameters_of(plain(agent.q_network))
    for key, norm in expected.items():
        assert float(ours[key.removesuffix("_orig")].grad.norm()) == pytest.approx(norm, rel=1e-9), key


def compare_sigmas(agent, expected):
    """The weights have changed since: u and v of the update, with the weights of the start, kept by the target."""
    online, target = (tracked_layers(network) for network in (agent.q_network, agent.q_network_target))
    assert len(online) == len(expected)
    for name, sigma in zip(target, expected.values(), strict=True):
        assert float(target[name].sigma()) == pytest.approx(sigma, rel=1e-9)


def test_the_copied_target_has_the_online_networks_buffers():
    agent = make_agent(*CASES["dqn_sn-2,-3"])
    agent.update(q_batch(0), step=1)
    online, target = agent.q_network.state_dict(), agent.q_network_target.state_dict()
    assert not torch.equal(online["hidden.weight"], target["hidden.weight"])
    agent.update(q_batch(1), step=2)  # the period is two steps
    assert all(torch.equal(value, target[key]) for key, value in online.items())
    assert {"hidden.u", "hidden.v", "convs.1.u", "convs.1.v"} <= set(target)
