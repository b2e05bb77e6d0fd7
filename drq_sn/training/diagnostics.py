"""Diagnostics computed at evaluation; they do not affect training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from drq_sn.agents import losses
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.agents.distributions import saturation_metrics
from drq_sn.training.metrics import to_host
from drq_sn.types import Batch, Episode, Metrics

MAX_PIXEL = 255.0
RANK_SHARE = 0.99  # of the singular values' sum (Kumar et al. 2021)
DORMANT_SHARE = 0.025  # of a layer's mean activity (Sokar et al. 2023)
RELUS = (torch.relu, F.relu)
SKETCH = {"q": 6, "niter": 8}  # of the randomized decomposition: sigma to a fraction of a percent
OF_STATES = (
    "critic_loss", "action_gradient_mean", "action_gradient_max", "smoothness", "effective_rank/actor", "effective_rank/critic",
    "dormant/actor", "dormant/critic", "actor_preactivation", "actor_preactivation_max", "actor_saturation",
)  # fmt: skip
OF_EPISODES = ("q_start", "discounted_return", "overestimation")
OF_LAYERS = ("sigma", "frobenius", "effective_lr")


class Instruments:
    """Instruments of one agent.

    Args:
        agent: who is looked at.
        gamma: discount per step of the returns that Q values are compared with.

    Attributes:
        names: everything that a measurement may hold.
    """

    def __init__(self, agent: ActorCriticAgent, gamma: float) -> None:
        self._agent, self._gamma = agent, gamma
        layers = (f"{kind}/{layer}" for kind in OF_LAYERS for layer in linear_layers(agent))
        self.names = ("seconds", *OF_STATES, *OF_EPISODES, *layers)

    def __call__(self, step: int, batch: Batch | None, episodes: list[Episode]) -> dict[str, float]:
        """Measure.

        Args:
            step: environment step that training stands at.
            batch: transitions from the replay; None while it is empty, and what needs them is left out.
            episodes: of the present policy's evaluation.

        Returns:
            Numbers by name, `seconds` among them, which is what measuring took.
        """
        start = time.monotonic()
        self._agent.at_step_(step)
        with undisturbed(self._agent.device):
            found = of_layers(self._agent, step) | of_episodes(self._agent, episodes, self._gamma)
            if batch is not None:
                found |= of_states(self._agent, batch)
            numbers = to_host(found)
        return {"seconds": time.monotonic() - start, **numbers}


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Random numbers drawn within the `with` block are drawn again after it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def of_states(agent: ActorCriticAgent, batch: Batch) -> Metrics:
    """What depends on visited states.

    - `critic_loss`: the critic's loss on the batch (Bjorck et al. 2021, Figure 3).
    - `action_gradient_mean`, `_max`: ||d min(Q1, Q2) / da|| at the policy's action, over the batch.
    - `smoothness`: the largest ||d min(Q1, Q2) / ds|| over the batch, pixels in [0, 1] (Gogianu 5.2).
    - `actor_preactivation`, `_max`, `actor_saturation`: see `saturation_metrics`.
    - `effective_rank/{network}`: see `effective_rank`; of penultimate features, mean over the critic's heads.
    - `dormant/{network}`: see `dormant_share`; over all units of all heads.
    """
    with torch.no_grad():
        critic_loss = agent.critic_loss(batch)
    pixels = batch.obs.to(torch.get_default_dtype()).requires_grad_()
    features = agent.encoder(pixels)
    pre_tanh = agent.pre_tanh_action(features)
    action = torch.tanh(pre_tanh).detach().requires_grad_()
    q = losses.clipped_double_q(agent.critic(features, action))
    by_action, by_pixel = torch.autograd.grad(q.sum(), (action, pixels))
    action_norms, pixel_norms = by_action.norm(dim=1), MAX_PIXEL * by_pixel.flatten(1).norm(dim=1)
    found = {
        "critic_loss": critic_loss,
        "action_gradient_mean": action_norms.mean(),
        "action_gradient_max": action_norms.max(),
        "smoothness": pixel_norms.max(),
        **saturation_metrics(pre_tanh),
    }
    heads = {"actor": [agent.actor.head], "critic": [agent.critic.q1, agent.critic.q2]}
    calls = {"actor": lambda: agent.actor(features), "critic": lambda: agent.critic(features, action)}
    for network, call in calls.items():
        penultimate, hidden = observe(call, heads[network])
        found[f"effective_rank/{network}"] = torch.stack([effective_rank(x) for x in penultimate]).mean()
        found[f"dormant/{network}"] = dormant_share(hidden).to(q.device)
    return found


def of_episodes(agent: ActorCriticAgent, episodes: list[Episode], gamma: float) -> Metrics:
    """min(Q1, Q2) at the first states of evaluation episodes, and the discounted returns that followed, each a mean.

    `overestimation` is the difference. The return ends with the episode while Q does not; after 500
    steps gamma^500 = 0.007 of it is left. DrQ's Q holds the entropy bonus besides.
    """
    with torch.no_grad():
        first_obs = torch.as_tensor(np.stack([episode.first_obs for episode in episodes]), device=agent.device)
        features = agent.encoder(first_obs)
        q = losses.clipped_double_q(agent.critic(features, agent.mean_action(features))).mean()
    returns = [sum(gamma**t * reward for t, reward in enumerate(episode.rewards)) for episode in episodes]
    observed = torch.full_like(q, sum(returns) / len(returns))
    return dict(zip(OF_EPISODES, (q, observed, q - observed), strict=True))


@torch.no_grad()
def of_layers(agent: ActorCriticAgent, step: int) -> Metrics:
    """Of every linear layer: sigma and Frobenius norm of its weight, and lr at `step` / that norm (Lyle et al. 2024).

    The weight is the parameter itself, before it is divided by sigma; of weight normalization, gain and direction together.
    """
    found: Metrics = {}
    for name, layer in linear_layers(agent).items():
        weight = getattr(layer, "composed_weight", layer.weight)
        norm = weight.norm()
        values = largest_singular_value(weight), norm, agent.learning_rate(step) / norm
        found |= {f"{kind}/{name}": value for kind, value in zip(OF_LAYERS, values, strict=True)}
    return found


def linear_layers(agent: ActorCriticAgent) -> dict[str, nn.Linear]:
    """The linear layers of actor and critic, trunks included, by their dotted names."""
    networks = nn.ModuleDict({"actor": agent.actor, "critic": agent.critic})
    return {name: layer for name, layer in networks.named_modules() if isinstance(layer, nn.Linear)}


def largest_singular_value(weight: Tensor) -> Tensor:
    """Of a matrix, 0-d, by a randomized decomposition (Halko et al. 2011); NaN of one that is not finite."""
    if not torch.isfinite(weight).all():
        return torch.full_like(weight[0, 0], torch.nan)
    size = min(SKETCH["q"], *weight.shape)
    return torch.svd_lowrank(weight, size, SKETCH["niter"])[1][0]


def effective_rank(features: Tensor) -> Tensor:
    """Smallest k such that the k largest singular values of (B, D) hold 99 % of their sum; NaN of what is not finite."""
    if not torch.isfinite(features).all():
        return torch.full_like(features[0, 0], torch.nan)
    values = torch.linalg.svdvals(features)
    total = values.sum()
    return (((values.cumsum(0) < RANK_SHARE * total).sum() + 1) * (total > 0)).to(features)


def dormant_share(hidden: list[Tensor]) -> Tensor:
    """Share of units with a mean activity of at most 2.5 % of their layer's; (B, D) activations >= 0 by layer, NaN of none."""
    if not hidden:
        return torch.tensor(torch.nan)
    activity = [x.mean(0) for x in hidden]
    return torch.cat([(units <= DORMANT_SHARE * units.mean()).float() for units in activity]).mean()


class ReLUOutputs(TorchFunctionMode):
    """Keeps what every ReLU within the `with` block puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, and keep its result if it is a ReLU."""
        result = func(*args, **(kwargs or {}))
        if func in RELUS:
            self.outputs.append(result)
        return result


def observe(call: Any, heads: list[nn.Module]) -> tuple[list[Tensor], list[Tensor]]:
    """What enters the last linear layer of each of `heads` during `call`, and the outputs of all ReLUs."""
    penultimate: list[Tensor] = []
    last = [[layer for layer in head.modules() if isinstance(layer, nn.Linear)][-1] for head in heads]
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: penultimate.append(inputs[0])) for layer in last]
    try:
        with torch.no_grad(), ReLUOutputs() as relus:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return penultimate, relus.outputs
