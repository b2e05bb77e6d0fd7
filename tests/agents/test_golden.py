"""Our agents against what the published implementations compute (spec section 10)."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from drq_sn.agents import DrQ, DrQV2
from drq_sn.agents.penalties import NoPenalty
from drq_sn.agents.runtime import Eager
from drq_sn.networks.heads import MLPHead
from drq_sn.networks.normalizers import Unnormalized
from drq_sn.training.augmentations import crop_shifted
from drq_sn.training.schedules import Constant
from drq_sn.types import Batch
from tests.agents import golden_inputs as inputs

GOLDEN = json.loads((Path(__file__).parent / "golden_updates.json").read_text())
OBS_VIEW, NEXT_OBS_VIEW, OBS_AUG_VIEW, NEXT_OBS_AUG_VIEW = range(4)
ACT_BATCH = 9  # the golden action answers this batch's first observation
TARGET_NOISE, ACTOR_NOISE, SECOND_TARGET_NOISE = range(3)

# golden metric -> function of (our metrics before, our agent after)
METRICS = {
    "drqv2": {
        "critic_target_q": lambda m, a: m["critic_target"],
        "critic_q1": lambda m, a: m["q1"],
        "critic_q2": lambda m, a: m["q2"],
        "critic_loss": lambda m, a: m["critic_loss"],
        "actor_loss": lambda m, a: m["actor_loss"],
        "actor_logprob": lambda m, a: m["actor_log_prob"],
        "actor_ent": lambda m, a: m["actor_entropy"],
    },
    "drq": {
        "train_critic/loss": lambda m, a: m["critic_loss"],
        "train_actor/loss": lambda m, a: m["actor_loss"],
        "train_actor/target_entropy": lambda m, a: a.target_entropy,
        "train_actor/entropy": lambda m, a: m["actor_entropy"],
        "train_alpha/loss": lambda m, a: m["temperature_loss"],
        "train_alpha/value": lambda m, a: m["temperature"],
        "alpha_after": lambda m, a: a.temperature().detach(),
    },
}


class GivenCrops:
    """An augmentation that crops at given offsets, one set per call."""

    def __init__(self):
        self.queue = []

    def __call__(self, obs):
        return crop_shifted(obs, torch.as_tensor(self.queue.pop(0)), inputs.PAD)


def make_agent(name, dtype):
    head = functools.partial(MLPHead, width=inputs.WIDTH, num_hidden_layers=2)
    shared = {
        "obs_shape": (inputs.CHANNELS, inputs.IMAGE_SIZE, inputs.IMAGE_SIZE),
        "action_dim": inputs.ACTION_DIM,
        "num_filters": inputs.NUM_FILTERS,
        "trunk_dim": inputs.TRUNK_DIM,
        "actor_head": head,
        "critic_head": head,
        "normalizer": Unnormalized(),
        "penalty": NoPenalty(),
        "lr_schedule": Constant(1.0),
        "adam_eps": 1e-8,
        "runtime": Eager(),
        "augmentation": GivenCrops(),
        "tau": 0.01,
        "device": "cpu",
    }
    torch.set_default_dtype(dtype)
    if name == "drq":
        agent = DrQ(lr=1e-3, initial_temperature=0.1, actor_update_every_steps=2, pixel_offset=0.0, **shared)
    else:
        agent = DrQV2(lr=1e-4, std_schedule=Constant(0.4), noise_clip=0.3, pixel_offset=-0.5, **shared)
    torch.set_default_dtype(torch.float32)
    values = inputs.parameters(policy_dim=inputs.ACTION_DIM * (2 if name == "drq" else 1))
    with torch.no_grad():
        for key, parameter in named(agent.encoder, agent.critic, agent.actor).items():
            parameter.copy_(torch.as_tensor(values[key]))
    for target in ("encoder", "critic"):
        if f"{target}_target" in agent.networks:
            agent.networks[f"{target}_target"].load_state_dict(agent.networks[target].state_dict())
    return agent


def named(encoder, critic, actor=None):
    """Our parameters under the names of the golden file."""
    layers = {f"conv{k + 1}": conv for k, conv in enumerate(encoder.convs)} if encoder else {}
    heads = {"q1": critic.q1, "q2": critic.q2} | ({"actor": actor.head} if actor else {})
    for name, network in (("critic", critic), ("actor", actor)):
        if network:
            layers |= {f"{name}_trunk.linear": network.trunk.linear, f"{name}_trunk.norm": network.trunk.norm}
    layers |= {f"{name}.{k}": layer for name, head in heads.items() for k, layer in enumerate(head.layers)}
    return {f"{name}.{kind}": getattr(layer, kind) for name, layer in layers.items() for kind in ("weight", "bias")}


def run_update(agent, name, update):
    """One update on the golden inputs; our metrics as floats."""
    arrays = inputs.batch(update)
    gamma = 0.99**3 if name == "drqv2" else 0.99
    dtype = next(agent.encoder.parameters()).dtype
    batch = Batch(
        obs=torch.as_tensor(arrays["obs"]),
        action=torch.as_tensor(arrays["action"], dtype=dtype),
        reward=torch.as_tensor(arrays["reward"], dtype=dtype),
        discount=torch.as_tensor(arrays["alive"] * gamma, dtype=dtype),
        next_obs=torch.as_tensor(arrays["next_obs"]),
    )
    if name == "drqv2":
        views, draws = (OBS_VIEW, NEXT_OBS_VIEW), [TARGET_NOISE, ACTOR_NOISE]
    else:
        views = (OBS_VIEW, OBS_AUG_VIEW, NEXT_OBS_VIEW, NEXT_OBS_AUG_VIEW)
        draws = [TARGET_NOISE, SECOND_TARGET_NOISE, ACTOR_NOISE]
    agent.augmentation.queue = [inputs.crop_offsets(update, view) for view in views]
    agent._noise_like = lambda x: torch.as_tensor(inputs.noise(update, draws.pop(0)), dtype=dtype)
    return agent.update(batch, step=update)


@pytest.mark.parametrize("name", ["drqv2", "drq"])
def test_float64_updates_equal_the_published_implementation(name):
    agent = make_agent(name, torch.float64)
    for update, expected in enumerate(GOLDEN[name]["updates"]):
        compare_update(agent, run_update(agent, name, update), name, expected, rtol=1e-9)
    compare_weights(agent, name, rtol=1e-6)
    act = agent.act(inputs.batch(ACT_BATCH)["obs"][0], step=0, explore=False)
    assert np.allclose(act, GOLDEN[name]["act_mean"], rtol=1e-6, atol=1e-8)  # `act` answers in float32


@pytest.mark.parametrize("name", ["drqv2", "drq"])
def test_float32_updates_equal_the_published_implementation(name):
    """Each update starts from the float64 agent's state.

    Left to itself, a pre-activation that rounds to the other side of ReLU's zero (seen in DrQ-v2's
    first update: 3e-4 of one bias gradient) grows through Adam's division, to 7e-3 two updates on.
    """
    exact, agent = make_agent(name, torch.float64), make_agent(name, torch.float32)
    for update, expected in enumerate(GOLDEN[name]["updates"]):
        agent.load_state_dict(copy.deepcopy(exact.state_dict()))
        compare_update(agent, run_update(agent, name, update), name, expected, rtol=1e-3)
        run_update(exact, name, update)
    compare_weights(agent, name, rtol=1e-3)


@pytest.mark.parametrize("name", ["drqv2", "drq"])
def test_float32_metrics_stay_equal_when_updates_follow_each_other(name):
    agent = make_agent(name, torch.float32)
    for update, expected in enumerate(GOLDEN[name]["updates"]):
        compare_metrics(agent, run_update(agent, name, update), name, expected, rtol=1e-3)
    compare_weights(agent, name, rtol=1e-3)


def compare_metrics(agent, metrics, name, expected, rtol):
    for key, value in expected["metrics"].items():
        assert float(METRICS[name][key](metrics, agent)) == pytest.approx(value, rel=rtol), key


def compare_update(agent, metrics, name, expected, rtol):
    compare_metrics(agent, metrics, name, expected, rtol)
    online = named(agent.encoder, agent.critic, agent.actor)
    for group in expected["grad_norms"].values():
        for key, value in group.items():
            assert float(online[key].grad.norm()) == pytest.approx(value, rel=rtol), key


def compare_weights(agent, name, rtol):
    targets = named(agent.networks["encoder_target"] if name == "drq" else None, agent.networks["critic_target"])
    compare_sums(named(agent.encoder, agent.critic, agent.actor), GOLDEN[name]["weights_after"], rtol)
    compare_sums(targets, GOLDEN[name]["target_after"], rtol)


def compare_sums(parameters, expected, rtol):
    assert set(parameters) == set(expected)
    for key, sums in expected.items():
        ours = parameters[key].detach().double()
        scale = sums["abs"]  # a plain sum nearly cancels: its error is relative to the sum of magnitudes
        assert float(ours.abs().sum()) == pytest.approx(sums["abs"], rel=rtol), key
        assert float(ours.sum()) == pytest.approx(sums["sum"], abs=rtol * scale), key
        assert float(ours.flatten()[0]) == pytest.approx(sums["first"], rel=rtol, abs=rtol / 100), key
        assert float(ours.flatten()[-1]) == pytest.approx(sums["last"], rel=rtol, abs=rtol / 100), key
