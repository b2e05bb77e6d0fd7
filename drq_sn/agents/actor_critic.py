"""Actor-critic agents: one shared encoder, an actor, two Q heads, and acting from pixels."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.agents.base import BaseAgent
from drq_sn.agents.penalties import Penalty
from drq_sn.agents.runtime import Runtime
from drq_sn.networks.actor_critic import Actor, Critic, HeadFactory
from drq_sn.networks.encoders import ConvEncoder
from drq_sn.networks.normalizers.base import Normalizer
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
class Components:
    """What an actor-critic is built from besides the options of its algorithm.

    Attributes:
        obs_shape: (C, H, W) of the stacked frames.
        action_dim: number of action dimensions.
        actor_head: builds the actor's head.
        critic_head: builds each Q head.
        normalizer: applied to every network after its initialization, and to every optimizer step.
        penalty: added to the critic loss.
        augmentation: applied to the observations of a batch.
        lr: learning rate of every optimizer, before the schedule.
        lr_schedule: environment step -> factor of the learning rate.
        runtime: how updates and actions are executed.
        device: where everything lives.
        encoder_dtype: type in which encoder and trunks compute, on parameters in float32; None for that of the
            parameters.
    """

    obs_shape: tuple[int, int, int]
    action_dim: int
    actor_head: HeadFactory
    critic_head: HeadFactory
    normalizer: Normalizer
    penalty: Penalty
    augmentation: Augmentation
    lr: float
    lr_schedule: Callable[[int], float]
    runtime: Runtime
    device: torch.device | str
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
        super().__init__(
            normalizer=normalizer,
            tau=tau,
            lr=components.lr,
            lr_schedule=components.lr_schedule,
            adam_eps=adam_eps,
            runtime=components.runtime,
            device=components.device,
        )
        self.augmentation, self.penalty = components.augmentation, components.penalty
        self._obs_shape = tuple(components.obs_shape)
        self.metric_names = (*self.metric_names, *self.penalty.metric_names)
        encoder = ConvEncoder(components.obs_shape, num_filters, pixel_offset, components.encoder_dtype)
        actor = Actor(encoder.feature_dim, policy_dim, trunk_dim, components.actor_head, normalizer)
        critic = Critic(encoder.feature_dim, components.action_dim, trunk_dim, components.critic_head, normalizer)
        normalizer.encoder_(encoder, components.obs_shape)
        self.encoder = self.add_network("encoder", encoder)
        self.actor = self.add_network("actor", actor)
        self.critic = self.add_network("critic", critic)

    def set_runtime(self, runtime: Runtime) -> None:
        """Execute updates and actions in `runtime`; see `BaseAgent`."""
        super().set_runtime(runtime)
        self._act = runtime(self._action, self.device, self.tensors)

    def act(self, obs: np.ndarray | Tensor, step: int, explore: bool) -> np.ndarray:
        """Stacked frames (C, H, W) uint8, on any device -> action (A,) float32; the mean action unless `explore`.

        Raises:
            InvalidInput: for anything else than one observation of the environment that it was built for.
        """
        is_tensor = isinstance(obs, Tensor)
        dtype, shape = getattr(obs, "dtype", type(obs).__name__), tuple(getattr(obs, "shape", ()))
        if shape != self._obs_shape or dtype != (torch.uint8 if is_tensor else np.uint8):
            raise validation.InvalidInput(
                f"obs must be uint8 of shape {self._obs_shape}, pixels 0 to 255, got {dtype} of shape {shape}"
            )
        if not is_tensor:
            obs = np.require(obs, requirements=("C", "W"))  # torch takes no flipped or read-only array
        with torch.inference_mode():
            self.at_step_(step)
            actions = self._act(torch.as_tensor(obs, device=self.device)[None], explore=explore)
            action: np.ndarray = actions[0].cpu().numpy()
            return action

    def _action(self, obs: Tensor, explore: bool) -> Tensor:
        """(B, C, H, W) -> actions (B, A) float32."""
        features = self.encoder(obs)
        return (self.explore(features) if explore else self.mean_action(features)).float()

    @abc.abstractmethod
    def explore(self, features: Tensor) -> Tensor:
        """Encoder features (B, F) -> sampled actions (B, A)."""

    @abc.abstractmethod
    def pre_tanh_action(self, features: Tensor) -> Tensor:
        """Encoder features (B, F) -> mean actions before their tanh (B, A)."""

    def mean_action(self, features: Tensor) -> Tensor:
        """Encoder features (B, F) -> mean actions (B, A)."""
        return torch.tanh(self.pre_tanh_action(features))

    @abc.abstractmethod
    def critic_loss(self, batch: Batch) -> Tensor:
        """Loss of the critic on `batch` under fresh augmentations, 0-d, without the penalty; changes nothing."""

    def critic_metrics(self, batch: Batch, loss: Tensor, penalty: Tensor, target: Tensor, q: Tensor) -> Metrics:
        """What an update reports of the critic.

        Args:
            batch: the update's transitions.
            loss: critic loss without the penalty, 0-d.
            penalty: added to the loss, 0-d.
            target: (B,).
            q: (2, B).
        """
        q1, q2 = q.detach().mean(-1)
        return {
            "critic_loss": loss.detach(),
            "critic_target": target.mean(),
            "q1": q1,
            "q2": q2,
            "batch_reward": batch.reward.mean(),
            **dict.fromkeys(self.penalty.metric_names, penalty.detach()),
        }
