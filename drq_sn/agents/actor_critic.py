"""Actor-critic agents: one shared encoder, an actor, two Q heads, and acting from pixels."""

from __future__ import annotations

import abc
import dataclasses
from typing import Protocol

import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.agents import losses
from drq_sn.agents.base import TARGET, BaseAgent, BaseComponents
from drq_sn.agents.penalties import Penalty
from drq_sn.networks.actor_critic import Actor, Critic, HeadFactory, soft_update_
from drq_sn.networks.encoders import ConvEncoder
from drq_sn.types import Batch, Metrics


class Augmentation(Protocol):
    """An image augmentation that draws fresh random numbers on each call.

    Attributes:
        capturable: whether a CUDA graph can capture it; not if it draws random numbers on the host.
    """

    capturable: bool

    def __call__(self, obs: Tensor) -> Tensor:
        """(B, C, H, W) in 0..255 -> the same shape and range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Components(BaseComponents):
    """What an actor-critic is built from besides the options of its algorithm.

    Attributes:
        action_dim: number of action dimensions.
        actor_head: builds the actor's head.
        critic_head: builds each Q head.
        penalty: added to the critic loss.
        augmentation: applied to the observations of a batch.
        encoder_dtype: type in which encoder and trunks compute, on parameters in float32; None for that of the
            parameters.
    """

    action_dim: int
    actor_head: HeadFactory
    critic_head: HeadFactory
    penalty: Penalty
    augmentation: Augmentation
    encoder_dtype: torch.dtype | None = None


class ActorCriticAgent(BaseAgent):
    """Encoder, actor and critic; a subclass adds targets, optimizers, its policy and its update.

    Args:
        components: see `Components`.
        policy_dim: outputs of the actor's head.
        pixel_offset: see `ConvEncoder`.
        num_filters: see `ConvEncoder`.
        trunk_dim: width of the trunks.
        tau: share of the online network in a soft update.
        adam_eps: Adam's epsilon, outside the square root.
    """

    def __init__(
        self,
        components: Components,
        policy_dim: int,
        *,
        pixel_offset: float,
        num_filters: int,
        trunk_dim: int,
        tau: float,
        adam_eps: float,
    ) -> None:
        normalizer = components.normalizer
        super().__init__(components, adam_eps=adam_eps)
        self.tau = validation.real("agent.tau", tau, 0, 1)
        self.augmentation, self.penalty = components.augmentation, components.penalty
        self.metric_names = (*self.metric_names, *self.penalty.metric_names)
        encoder = ConvEncoder(components.obs_shape, num_filters, pixel_offset, components.encoder_dtype)
        actor = Actor(encoder.feature_dim, policy_dim, trunk_dim, components.actor_head, normalizer)
        critic = Critic(encoder.feature_dim, components.action_dim, trunk_dim, components.critic_head, normalizer)
        normalizer.encoder_(encoder)
        self.encoder = self.add_network("encoder", encoder)
        self.actor = self.add_network("actor", actor)
        self.critic = self.add_network("critic", critic)

    def _action(self, obs: Tensor, explore: bool) -> Tensor:
        """(B, C, H, W) -> actions (B, A) float32; the mean actions unless `explore`."""
        features = self.encoder(obs)
        return (self.explore(features) if explore else self.mean_action(features)).float()

    def update_targets_(self) -> None:
        """Soft update of every target network."""
        for name, network in self.networks.items():
            if name.endswith(TARGET):
                soft_update_(network, self.networks[name.removesuffix(TARGET)], self.tau)

    @abc.abstractmethod
    def explore(self, features: Tensor) -> Tensor:
        """Encoder features (B, F) -> sampled actions (B, A)."""

    @abc.abstractmethod
    def pre_tanh_action(self, features: Tensor) -> Tensor:
        """Encoder features (B, F) -> mean actions before their tanh (B, A)."""

    def mean_action(self, features: Tensor) -> Tensor:
        """Encoder features (B, F) -> mean actions (B, A)."""
        return torch.tanh(self.pre_tanh_action(features))

    def value(self, obs: Tensor) -> Tensor:
        """min(Q1, Q2) of the mean actions; see `BaseAgent`."""
        features = self.encoder(obs)
        return losses.clipped_double_q(self.critic(features, self.mean_action(features)))

    def descend_critic_(self, batch: Batch, obs: Tensor, loss: Tensor, target: Tensor, q: Tensor) -> Metrics:
        """One optimizer step on the critic's loss and penalty for encoder and critic.

        Args:
            batch: the update's transitions.
            obs: augmented observations (B, C, H, W) that the penalty is of.
            loss: without the penalty, 0-d.
            target: (B,).
            q: (2, B).

        Returns:
            What the update reports of the critic.
        """
        penalty = self.penalty(lambda pixels: self.critic(self.encoder(pixels), batch.action), obs)
        grad_norms = self.descend_(loss + penalty, "encoder", "critic")
        q1, q2 = q.detach().mean(-1)
        return grad_norms | {
            "critic_loss": loss.detach(),
            "critic_target": target.mean(),
            "q1": q1,
            "q2": q2,
            "batch_reward": batch.reward.mean(),
            **dict.fromkeys(self.penalty.metric_names, penalty.detach()),
        }
