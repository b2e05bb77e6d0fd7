"""DrQ-v2: DDPG with n-step returns and image augmentation (Yarats et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.agents import losses
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.agents.distributions import clipped_normal_sample, normal_log_prob, saturation_metrics
from drq_sn.networks.actor_critic import target_copy
from drq_sn.types import Batch, Metrics


class DrQV2(ActorCriticAgent):
    """One update trains critic and encoder, then the actor, then moves the target critic.

    Args:
        std_schedule: environment step -> standard deviation of the exploration noise.
        noise_clip: bound on the noise while learning; acting noise is not clipped.
        shared: everything that `ActorCriticAgent` takes.
    """

    metric_names = (
        "critic_loss", "critic_target", "q1", "q2", "actor_loss", "actor_log_prob", "actor_entropy",
        "actor_preactivation", "actor_preactivation_max", "actor_saturation", "std", "batch_reward",
        "grad_norm/encoder", "grad_norm/critic", "grad_norm/actor",
    )  # fmt: skip

    def __init__(
        self, *, action_dim: int, std_schedule: Callable[[int], float], noise_clip: float, **shared: Any
    ) -> None:
        super().__init__(action_dim=action_dim, policy_dim=action_dim, **shared)
        self.std_schedule = std_schedule
        self.noise_clip = validation.real("agent.noise_clip", noise_clip, 0, open_low=True)
        self.std = torch.zeros((), device=self.device)
        self._add_target("critic_target", target_copy(self.critic), self.critic)
        for name in ("encoder", "actor", "critic"):
            self._add_optimizer(name, self.networks[name].parameters())

    def at_step_(self, step: int) -> None:
        self.std.fill_(self.std_schedule(step))

    def _pre_tanh(self, actor_output: Tensor) -> Tensor:
        return actor_output

    def _explore(self, actor_output: Tensor) -> Tensor:
        mean = torch.tanh(actor_output)
        return clipped_normal_sample(mean, self.std, self._noise_like(mean), noise_clip=None)

    def learn(self, batch: Batch, *, power_iteration_factor: int) -> Metrics:
        """See `ActorCriticAgent`; also reads `self.std`.

        Power iterations per update are those of `torch.nn.utils.spectral_norm`, which iterates at every forward
        pass in training mode: 2 for critic and actor, 1 for the target.
        """
        obs, next_obs = self.augmentation(batch.obs), self.augmentation(batch.next_obs)
        features, metrics = self._update_critic_(batch, obs, next_obs)
        self._power_iterate_(2 * power_iteration_factor, "encoder", "critic")
        metrics |= self._update_actor_(features)
        self._power_iterate_(2 * power_iteration_factor, "actor")
        self._update_targets_()
        self._power_iterate_(1 * power_iteration_factor, "critic_target")
        return metrics

    def _update_critic_(self, batch: Batch, obs: Tensor, next_obs: Tensor) -> tuple[Tensor, Metrics]:
        """Train encoder and critic; return the features (B, F), cut off, that the actor learns from."""
        features = self.encoder(obs)
        critic_loss, target, q = self._critic_loss(batch, features, next_obs)
        penalized = self._penalty(critic_loss, self._q_of(batch.action), obs)
        metrics = self._descend_(penalized, "encoder", "critic")
        return features.detach(), metrics | self._critic_metrics(critic_loss, penalized, target, q, batch)

    def critic_loss(self, batch: Batch) -> Tensor:
        """See `ActorCriticAgent`."""
        obs, next_obs = self.augmentation(batch.obs), self.augmentation(batch.next_obs)
        return self._critic_loss(batch, self.encoder(obs), next_obs)[0]

    def _critic_loss(self, batch: Batch, features: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, target (B,) and Q values (2, B) on features (B, F) of the present observations."""
        with torch.no_grad():
            next_features = self.encoder(next_obs)
            next_action = self._sample_action(self.mean_action(next_features))
            next_value = losses.clipped_double_q(self.networks["critic_target"](next_features, next_action))
            target = losses.td_target(batch.reward, batch.discount, next_value)
        q = self.critic(features, batch.action)
        return losses.critic_loss(q, target), target, q

    def _update_actor_(self, features: Tensor) -> Metrics:
        """Train the actor on features (B, F) of the encoder as it was before this update."""
        pre_tanh = self.pre_tanh_action(features)
        mean = torch.tanh(pre_tanh)
        action = self._sample_action(mean)
        actor_loss = losses.deterministic_actor_loss(self.critic(features, action))
        metrics = self._descend_(actor_loss, "actor")
        with torch.no_grad():
            return metrics | {
                "actor_loss": actor_loss.detach(),
                "actor_log_prob": normal_log_prob(action, mean, self.std).mean(),
                "actor_entropy": mean.shape[-1] * (0.5 + 0.5 * math.log(2 * math.pi) + torch.log(self.std)),
                "std": self.std.clone(),
                **saturation_metrics(pre_tanh),
            }

    def _sample_action(self, mean: Tensor) -> Tensor:
        return clipped_normal_sample(mean, self.std, self._noise_like(mean), self.noise_clip)
