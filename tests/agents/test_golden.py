"""Updates against the published implementations of DrQ and DrQ-v2.

`golden_updates.json` holds what they compute in float64 (head of width 64, batch of 4) from inputs that
are defined here by formula: weights, batches, crop offsets and noise.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from drq_sn.agents import DrQ, DrQV2
from drq_sn.agents.actor_critic import Components
from drq_sn.agents.penalties import NoPenalty
from drq_sn.agents.runtime import Eager
from drq_sn.networks.heads import MLPHead
from drq_sn.networks.normalizers import Unnormalized
from drq_sn.training.augmentations import crop_shifted
from drq_sn.training.schedules import Constant
from drq_sn.types import Batch
from tests.agents.golden import compare_sums, wave
from tests.builders import default_dtype

GOLDEN = json.loads((Path(__file__).parent / "golden_updates.json").read_text())
OBS_VIEW, NEXT_OBS_VIEW, OBS_AUG_VIEW, NEXT_OBS_AUG_VIEW = range(4)
ACT_BATCH = 9  # the golden action answers this batch's first observation
TARGET_NOISE, ACTOR_NOISE, SECOND_TARGET_NOISE = range(3)

BATCH_SIZE, ACTION_DIM, CHANNELS, IMAGE_SIZE, TRUNK_DIM, WIDTH, PAD = 4, 3, 9, 84, 50, 64, 4
NUM_FILTERS, FEATURE_DIM = 32, 32 * 35 * 35

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


def weight_and_bias(weight_shape: tuple[int, ...], key: int) -> dict[str, np.ndarray]:
    """One layer; the fan-in is everything but the first axis."""
    scale = 1.5 / np.sqrt(np.prod(weight_shape[1:]))
    return {"weight": wave(weight_shape, key, scale), "bias": wave(weight_shape[:1], key + 1, 0.05)}


@functools.cache
def golden_parameters(policy_dim: int) -> dict[str, np.ndarray]:
    """Every online parameter by the names of the golden file; targets start as copies."""
    layers = {}
    for k in range(4):
        layers[f"conv{k + 1}"] = weight_and_bias((NUM_FILTERS, NUM_FILTERS if k else CHANNELS, 3, 3), 2 * k)
    for network, key in (("critic", 20), ("actor", 30)):
        layers[f"{network}_trunk.linear"] = weight_and_bias((TRUNK_DIM, FEATURE_DIM), key)
        scale, shift = wave((TRUNK_DIM,), key + 2, 0.1), wave((TRUNK_DIM,), key + 3, 0.1)
        layers[f"{network}_trunk.norm"] = {"weight": 1 + scale, "bias": shift}
    q_in = TRUNK_DIM + ACTION_DIM
    for head, key, in_dim, out_dim in (("q1", 40, q_in, 1), ("q2", 50, q_in, 1), ("actor", 60, TRUNK_DIM, policy_dim)):
        shapes = ((WIDTH, in_dim), (WIDTH, WIDTH), (out_dim, WIDTH))
        for k, shape in enumerate(shapes):
            layers[f"{head}.{k}"] = weight_and_bias(shape, key + 2 * k)
    return {f"{layer}.{kind}": value for layer, group in layers.items() for kind, value in group.items()}


def golden_batch(update: int) -> dict[str, np.ndarray]:
    """Observations, action, reward, and `alive`: 0 for one sample of the batch, else 1."""
    key = 100 + 10 * update
    shape = (BATCH_SIZE, CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
    obs, next_obs = (
        np.round(127.5 + 127.5 * wave(shape, k, 1.0)).clip(0, 255).astype(np.uint8) for k in (key, key + 1)
    )
    alive = np.ones(BATCH_SIZE)
    alive[update % BATCH_SIZE] = 0.0
    return {
        "obs": obs,
        "next_obs": next_obs,
        "action": wave((BATCH_SIZE, ACTION_DIM), key + 2, 0.95),
        "reward": wave((BATCH_SIZE,), key + 3, 1.0) + 1.0,
        "alive": alive,
    }


def golden_crop_offsets(update: int, view: int) -> np.ndarray:
    """(B, 2) row and column in 0..8. Views: 0 obs, 1 next_obs, 2 obs_aug, 3 next_obs_aug."""
    i = np.arange(BATCH_SIZE)
    rows, columns = 3 * i + 5 * update + 7 * view + 1, 5 * i + 2 * update + 4 * view + 3
    return np.stack([rows, columns], axis=1) % (2 * PAD + 1)


def golden_noise(update: int, draw: int) -> np.ndarray:
    """(B, A). Draws: 0 target action, 1 actor's action, 2 target action of DrQ's second view."""
    return wave((BATCH_SIZE, ACTION_DIM), 500 + 10 * update + draw, 1.2)


class GivenCrops:
    """An augmentation that crops at given offsets, one set per call."""

    capturable = True

    def __init__(self):
        self.queue = []

    def __call__(self, obs):
        return crop_shifted(obs, torch.as_tensor(self.queue.pop(0)), PAD)


def make_agent(name, dtype):
    head = functools.partial(MLPHead, width=WIDTH, num_hidden_layers=2)
    components = Components(
        obs_shape=(CHANNELS, IMAGE_SIZE, IMAGE_SIZE),
        action_dim=ACTION_DIM,
        actor_head=head,
        critic_head=head,
        normalizer=Unnormalized(),
        penalty=NoPenalty(),
        augmentation=GivenCrops(),
        lr=1e-3 if name == "drq" else 1e-4,
        lr_schedule=Constant(1.0),
        runtime=Eager(),
        device="cpu",
    )
    options = {"num_filters": NUM_FILTERS, "trunk_dim": TRUNK_DIM, "tau": 0.01, "adam_eps": 1e-8}
    with default_dtype(dtype):
        if name == "drq":
            agent = DrQ(components, initial_temperature=0.1, actor_update_every_steps=2, pixel_offset=0.0, **options)
        else:
            agent = DrQV2(components, std_schedule=Constant(0.4), noise_clip=0.3, pixel_offset=-0.5, **options)
    values = golden_parameters(policy_dim=ACTION_DIM * (2 if name == "drq" else 1))
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
    arrays = golden_batch(update)
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
    agent.augmentation.queue = [golden_crop_offsets(update, view) for view in views]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda x: torch.as_tensor(golden_noise(update, draws.pop(0)), dtype=dtype))
        return agent.update(batch, step=update)


@pytest.mark.parametrize("name", ["drqv2", "drq"])
def test_float64_updates_equal_the_published_implementation(name):
    agent = make_agent(name, torch.float64)
    for update, expected in enumerate(GOLDEN[name]["updates"]):
        compare_update(agent, run_update(agent, name, update), name, expected, rtol=1e-9)
    compare_weights(agent, name, rtol=1e-6)
    act = agent.act(golden_batch(ACT_BATCH)["obs"][0], step=0, explore=False)
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


def compare_metrics(agent, metrics, name, expected, rtol):
    for key, value in expected["metrics"].items():
        assert float(METRICS[name][key](metrics, agent)) == pytest.approx(value, rel=rtol), key


def compare_update(agent, metrics, name, expected, rtol):
    compare_metrics(agent, metrics, name, expected, rtol)
    online = named(agent.encoder, agent.critic, agent.actor)
    norms = {key: value for group in expected["grad_norms"].values() for key, value in group.items()}
    for key, value in norms.items():
        assert float(online[key].grad.norm()) == pytest.approx(value, rel=rtol), key
    for network, prefixes in {"encoder": "conv", "critic": ("critic_", "q1.", "q2."), "actor": "actor"}.items():
        if total := math.hypot(*(value for key, value in norms.items() if key.startswith(prefixes))):
            assert float(metrics[f"grad_norm/{network}"]) == pytest.approx(total, rel=rtol), network


def compare_weights(agent, name, rtol):
    targets = named(agent.networks["encoder_target"] if name == "drq" else None, agent.networks["critic_target"])
    compare_sums(named(agent.encoder, agent.critic, agent.actor), GOLDEN[name]["weights_after"], rtol)
    compare_sums(targets, GOLDEN[name]["target_after"], rtol)
