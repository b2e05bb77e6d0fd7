"""DrQ: SAC on images, each seen through two augmentations (Kostrikov et al. 2020)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.agents import losses
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.agents.distributions import bounded_log_std, saturation_metrics, squashed_normal_sample
from drq_sn.networks.actor_critic import Temperature, target_copy
from drq_sn.types import Batch, Metrics

Views = tuple[Tensor, Tensor]
"""Two independent augmentations of the same observations (B, C, H, W)."""


class DrQ(ActorCriticAgent):
    """Every update trains critic and encoder; every second one actor, temperature and targets.

    Args:
        initial_temperature: alpha at the start.
        actor_update_every_steps: period, in environment steps, of actor, temperature and targets.
        shared: everything that `ActorCriticAgent` takes.
    """

    metric_names = (
        "critic_loss", "critic_target", "q1", "q2", "actor_loss", "actor_log_prob", "actor_entropy",
        "actor_preactivation", "actor_preactivation_max", "actor_saturation", "temperature", "temperature_loss", "batch_reward",
        "grad_norm/encoder", "grad_norm/critic", "grad_norm/actor", "grad_norm/temperature",
    )  # fmt: skip

    def __init__(
        self, *, action_dim: int, initial_temperature: float, actor_update_every_steps: int, **shared: Any
    ) -> None:
        super().__init__(action_dim=action_dim, policy_dim=2 * action_dim, **shared)
        self.target_entropy = -float(action_dim)
        self.actor_update_every_steps = validation.integer("agent.actor_update_every_steps", actor_update_every_steps)
        validation.real("agent.initial_temperature", initial_temperature, 0, open_low=True)
        self.temperature = Temperature(initial_temperature).to(self.device)
        self.networks["temperature"] = self.temperature
        self._add_target("encoder_target", target_copy(self.encoder), self.encoder)
        self._add_target("critic_target", target_copy(self.critic), self.critic)
        for name in ("encoder", "actor", "critic", "temperature"):
            self._add_optimizer(name, self.networks[name].parameters())

    def _pre_tanh(self, actor_output: Tensor) -> Tensor:
        return actor_output.chunk(2, dim=-1)[0]

    def _explore(self, actor_output: Tensor) -> Tensor:
        return self._sample_action(actor_output)[0]

    def _flags(self, step: int) -> dict[str, Hashable]:
        return {"with_actor": step % self.actor_update_every_steps == 0}

    def learn(self, batch: Batch, *, with_actor: bool, power_iteration_factor: int) -> Metrics:
        """See `ActorCriticAgent`; with or without actor, temperature and targets.

        Power iterations are as many as in `torch.nn.utils.spectral_norm`, which iterates at every forward pass in
        training mode: two an update in every network, for the two views, and one more per actor update in critic and actor.
        """
        views, next_views = self._two_views(batch.obs), self._two_views(batch.next_obs)
        metrics = self._update_critic_(batch, views, next_views)
        self._power_iterate_((2 + with_actor) * power_iteration_factor, "encoder", "critic")
        if with_actor:
            metrics |= self._update_actor_(views[0])
            self._power_iterate_((2 * self.actor_update_every_steps + 1) * power_iteration_factor, "actor")
            self._update_targets_()
            self._power_iterate_(
                2 * self.actor_update_every_steps * power_iteration_factor, "encoder_target", "critic_target"
            )
        return metrics

    def _two_views(self, obs: Tensor) -> Views:
        return self.augmentation(obs), self.augmentation(obs)

    def _update_critic_(self, batch: Batch, views: Views, next_views: Views) -> Metrics:
        """Train encoder and critic: each view of the observation towards the mean of the next views' targets."""
        critic_loss, target, q = self._critic_loss(batch, views, next_views)
        penalized = self._penalty(critic_loss, self._q_of(batch.action), views[0])
        metrics = self._descend_(penalized, "encoder", "critic")
        return metrics | self._critic_metrics(critic_loss, penalized, target, q, batch)

    def critic_loss(self, batch: Batch) -> Tensor:
        """See `ActorCriticAgent`."""
        return self._critic_loss(batch, self._two_views(batch.obs), self._two_views(batch.next_obs))[0]

    def _critic_loss(self, batch: Batch, views: Views, next_views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, target (B,), and Q values (2, B) of the first view."""
        with torch.no_grad():
            target = (self._td_target(batch, next_views[0]) + self._td_target(batch, next_views[1])) / 2
        q, q_aug = (self.critic(self.encoder(view), batch.action) for view in views)
        return losses.critic_loss(q, target) + losses.critic_loss(q_aug, target), target, q

    def _td_target(self, batch: Batch, next_obs: Tensor) -> Tensor:
        """Y of one view of the next observation, (B,)."""
        next_action, log_prob = self._sample_action(self.actor(self.encoder(next_obs)))
        next_q = self.networks["critic_target"](self.networks["encoder_target"](next_obs), next_action)
        return losses.td_target(batch.reward, batch.discount, losses.soft_value(next_q, log_prob, self.temperature()))

    def _update_actor_(self, obs: Tensor) -> Metrics:
        """Train actor and temperature on features of the encoder as it is now, cut off from it."""
        with torch.no_grad():
            features = self.encoder(obs)
        actor_output = self.actor(features)
        action, log_prob = self._sample_action(actor_output)
        temperature = self.temperature()
        actor_loss = losses.soft_actor_loss(self.critic(features, action), log_prob, temperature.detach())
        temperature_loss = losses.temperature_loss(temperature, log_prob, self.target_entropy)
        metrics = {
            "actor_loss": actor_loss.detach(),
            "actor_log_prob": log_prob.detach().mean(),
            "actor_entropy": -log_prob.detach().mean(),
            "temperature": temperature.detach(),
            "temperature_loss": temperature_loss.detach(),
            **saturation_metrics(self._pre_tanh(actor_output)),
        }
        # neither loss depends on the other's parameters: their sum has the gradients of both
        return metrics | self._descend_(actor_loss + temperature_loss, "actor", "temperature")

    def _sample_action(self, actor_output: Tensor) -> tuple[Tensor, Tensor]:
        mean, x = actor_output.chunk(2, dim=-1)
        return squashed_normal_sample(mean, bounded_log_std(x), self._noise_like(mean))
