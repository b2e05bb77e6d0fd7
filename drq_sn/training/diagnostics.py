"""Diagnostics computed at evaluation; they do not affect training."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from drq_sn.agents import losses
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.agents.base import BaseAgent
from drq_sn.agents.distributions import saturation_metrics
from drq_sn.networks.encoders import MAX_PIXEL
from drq_sn.networks.normalizers.base import conv_input_sizes
from drq_sn.networks.normalizers.power_iteration import Strength, TrackedConv2d
from drq_sn.training.metrics import to_host
from drq_sn.types import Batch, Episode, Metrics

RANK_FRACTION = 0.99  # of the sum of singular values (Kumar et al. 2021)
DORMANT_THRESHOLD = 0.025  # of a layer's mean activity (Sokar et al. 2023)
RELUS = (torch.relu, F.relu)
CONV_POWER_ITERATIONS = 100  # times those of a new layer, for an operator norm exact to 0.1 %
STATE_METRICS = (
    "critic_loss",
    "action_gradient_mean",
    "action_gradient_max",
    "smoothness",
    "effective_rank/actor",
    "effective_rank/critic",
    "dormant/actor",
    "dormant/critic",
    "actor_preactivation",
    "actor_preactivation_max",
    "actor_saturation",
)
Q_STATE_METRICS = ("critic_loss", "smoothness", "effective_rank/critic", "dormant/critic")
Q_NETWORK = "q_network"
NETWORKS = ("actor", "critic", Q_NETWORK)
EPISODE_METRICS = ("q_start", "discounted_return", "overestimation")
LAYER_METRICS = ("sigma", "frobenius", "effective_lr")


class Diagnostics:
    """Diagnostics of one agent.

    Args:
        agent: the agent.
        gamma: discount per step of the returns that Q values are compared with.

    Attributes:
        names: names of all diagnostics.
    """

    def __init__(self, agent: BaseAgent, gamma: float) -> None:
        self._agent, self._gamma = agent, gamma
        layers = (f"{kind}/{layer}" for kind in LAYER_METRICS for layer in linear_layers(agent))
        states = STATE_METRICS if isinstance(agent, ActorCriticAgent) else Q_STATE_METRICS
        self.names = ("seconds", *states, *EPISODE_METRICS, *layers)

    def __call__(self, step: int, batch: Batch | None, episodes: list[Episode]) -> dict[str, float]:
        """Compute all diagnostics.

        Args:
            step: current environment step.
            batch: transitions from the replay; None while it is empty, which leaves out the state metrics.
            episodes: evaluation episodes of the current policy.

        Returns:
            Diagnostics by name; `seconds` is the time that computing them took.
        """
        start = time.monotonic()
        self._agent.at_step_(step)
        with preserve_random_state(self._agent.device):
            metrics = layer_metrics(self._agent, step) | episode_metrics(self._agent, episodes, self._gamma)
            if batch is not None:
                metrics |= state_metrics(self._agent, batch)
            values = to_host(metrics)
        return {"seconds": time.monotonic() - start, **values}


def preserve_random_state(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Restore torch's random states, of the CPU and of `device`, at the end of the `with` block."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def state_metrics(agent: BaseAgent, batch: Batch) -> Metrics:
    """Metrics over visited states; a Q network has those of the critic.

    - `critic_loss`: loss of the critic on the batch (Bjorck et al. 2021, Figure 3).
    - `action_gradient_mean`, `_max`: ||d min(Q1, Q2) / da|| at the policy's action, mean and maximum over the batch.
    - `smoothness`: largest ||d min(Q1, Q2) / ds|| over the batch, pixels in [0, 1] (Gogianu et al. 2021, section 5.2);
      of a Q network, that of the best action's Q.
    - `actor_preactivation`, `_max`, `actor_saturation`: see `saturation_metrics`.
    - `effective_rank/{network}`: see `effective_rank`; of the penultimate features, mean over the critic's heads.
    - `dormant/{network}`: see `dormant_fraction`; over the units of all heads.
    """
    with torch.no_grad():
        critic_loss = agent.critic_loss(batch)
    pixels = batch.obs.to(torch.get_default_dtype()).requires_grad_()
    if not isinstance(agent, ActorCriticAgent):
        (gradient,) = torch.autograd.grad(agent.value(pixels).sum(), pixels)
        penultimate, hidden = record_activations(lambda: agent.value(pixels), [agent.networks[Q_NETWORK]])
        rank = effective_rank(penultimate[0])
        dormant = dormant_fraction(hidden).to(rank.device)
        values = critic_loss, gradient.flatten(1).norm(dim=1).max(), rank, dormant
        return dict(zip(Q_STATE_METRICS, values, strict=True))
    features = agent.encoder(pixels)
    pre_tanh = agent.pre_tanh_action(features)
    action = torch.tanh(pre_tanh).detach().requires_grad_()
    q = losses.clipped_double_q(agent.critic(features, action))
    by_action, by_pixel = torch.autograd.grad(q.sum(), (action, pixels))
    action_norms, pixel_norms = by_action.norm(dim=1), MAX_PIXEL * by_pixel.flatten(1).norm(dim=1)
    metrics = {
        "critic_loss": critic_loss,
        "action_gradient_mean": action_norms.mean(),
        "action_gradient_max": action_norms.max(),
        "smoothness": pixel_norms.max(),
        **saturation_metrics(pre_tanh),
    }
    heads = {"actor": [agent.actor.head], "critic": [agent.critic.q1, agent.critic.q2]}
    forward = {"actor": lambda: agent.actor(features), "critic": lambda: agent.critic(features, action)}
    for network, call in forward.items():
        penultimate, hidden = record_activations(call, heads[network])
        metrics[f"effective_rank/{network}"] = torch.stack([effective_rank(x) for x in penultimate]).mean()
        metrics[f"dormant/{network}"] = dormant_fraction(hidden).to(q.device)
    return metrics


def episode_metrics(agent: BaseAgent, episodes: list[Episode], gamma: float) -> Metrics:
    """Means over evaluation episodes: Q of the policy at the first state, the discounted return, their difference.

    The return ends with the episode but Q does not; after 500 steps, gamma^500 = 0.007 of it is left.
    DrQ's Q also contains the entropy bonus.
    """
    with torch.no_grad():
        first_obs = torch.as_tensor(np.stack([episode.first_obs for episode in episodes]), device=agent.device)
        q = agent.value(first_obs).mean()
    returns = [sum(gamma**t * reward for t, reward in enumerate(episode.rewards)) for episode in episodes]
    observed = torch.full_like(q, sum(returns) / len(returns))
    return dict(zip(EPISODE_METRICS, (q, observed, q - observed), strict=True))


@torch.no_grad()
def layer_metrics(agent: BaseAgent, step: int) -> Metrics:
    """Per layer: sigma and Frobenius norm of its weight, and lr at `step` / that norm (Lyle et al. 2024).

    The weight is the parameter before it is divided by sigma; with weight normalization, gain times direction. Sigma of
    a convolution is its operator norm.
    """
    metrics: Metrics = {}
    sizes = conv_input_sizes(agent.networks[Q_NETWORK], agent.obs_shape) if Q_NETWORK in agent.networks else {}
    for name, layer in linear_layers(agent).items():
        weight = getattr(layer, "composed_weight", layer.weight)
        norm = weight.norm()
        sigma = operator_norm(layer, sizes[layer]) if layer in sizes else largest_singular_value(weight)
        values = sigma, norm, agent.learning_rate(step) / norm
        metrics |= {f"{kind}/{name}": value for kind, value in zip(LAYER_METRICS, values, strict=True)}
    return metrics


def linear_layers(agent: BaseAgent) -> dict[str, Any]:
    """Linear layers of actor and critic, trunks included, or all layers of the Q network, by dotted name."""
    networks = nn.ModuleDict({name: agent.networks[name] for name in NETWORKS if name in agent.networks})
    return {name: layer for name, layer in networks.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}


def operator_norm(conv: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """Largest singular value of a convolution of inputs of `size`, 0-d; see `TrackedConv2d`."""
    generator = torch.Generator().manual_seed(0)
    return TrackedConv2d(conv, size, Strength(num_iterations=CONV_POWER_ITERATIONS), generator).sigma()


def largest_singular_value(weight: Tensor) -> Tensor:
    """Largest singular value of a matrix, 0-d, from the smaller Gram matrix; NaN if the matrix is not finite."""
    if not torch.isfinite(weight).all():
        return torch.full_like(weight[0, 0], torch.nan)
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    largest: Tensor = torch.linalg.eigvalsh(gram)[-1].sqrt()
    return largest


def effective_rank(features: Tensor) -> Tensor:
    """Smallest k such that the k largest singular values of (B, D) are 99 % of their sum; NaN if not finite."""
    if not torch.isfinite(features).all():
        return torch.full_like(features[0, 0], torch.nan)
    values = torch.linalg.svdvals(features)
    total = values.sum()
    rank: Tensor = (((values.cumsum(0) < RANK_FRACTION * total).sum() + 1) * (total > 0)).to(features)
    return rank


def dormant_fraction(hidden: list[Tensor]) -> Tensor:
    """Fraction of units, or channels, whose mean activity is at most 2.5 % of their layer's mean.

    Args:
        hidden: activations >= 0 of each layer, (B, D) or (B, C, H, W); NaN is returned if there are none.
    """
    if not hidden:
        return torch.tensor(torch.nan)
    activity = [x.flatten(2).mean((0, 2)) if x.ndim > 2 else x.mean(0) for x in hidden]
    return torch.cat([(units <= DORMANT_THRESHOLD * units.mean()).float() for units in activity]).mean()


class ReLUOutputs(TorchFunctionMode):
    """Records the output of every ReLU within the `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, and record its result if it is a ReLU."""
        result = func(*args, **(kwargs or {}))
        if func in RELUS:
            self.outputs.append(result)
        return result


def record_activations(call: Any, heads: list[nn.Module]) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs of the last linear layer of each of `heads` during `call`, and the outputs of all ReLUs."""
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
