"""DrQ: SAC from pixels, with losses and targets over two augmented views (Kostrikov et al. 2020)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.agents import losses
from drq_sn.agents.actor_critic import ActorCriticAgent, Components
from drq_sn.agents.distributions import bounded_log_std, saturation_metrics, squashed_normal_sample
from drq_sn.networks.actor_critic import Temperature
from drq_sn.types import Batch, Metrics


class Views(NamedTuple):
    """Augmented observations (B, C, H, W) of a batch: two views of each."""

    obs: Tensor
    obs_aug: Tensor
    next_obs: Tensor
    next_obs_aug: Tensor


class DrQ(ActorCriticAgent):
    """Every update trains critic and encoder; every second one also actor, temperature and targets.

    Args:
        components: see `Components`.
        initial_temperature: alpha at the start.
        actor_update_every_steps: period, in environment steps, of actor, temperature and targets.
    """

    metric_names = (
        "critic_loss", "critic_target", "q1", "q2", "actor_loss", "actor_log_prob", "actor_entropy",
        "actor_preactivation", "actor_preactivation_max", "actor_saturation",
        "temperature", "temperature_loss", "batch_reward",
        "grad_norm/encoder", "grad_norm/critic", "grad_norm/actor", "grad_norm/temperature",
    )  # fmt: skip

    def __init__(
        self,
        components: Components,
        *,
        pixel_offset: float,
        num_filters: int,
        trunk_dim: int,
        tau: float,
        adam_eps: float,
        initial_temperature: float,
        actor_update_every_steps: int,
    ) -> None:
        super().__init__(
            components,
            policy_dim=2 * components.action_dim,
            pixel_offset=pixel_offset,
            num_filters=num_filters,
            trunk_dim=trunk_dim,
            tau=tau,
            adam_eps=adam_eps,
        )
        self.target_entropy = -float(components.action_dim)
        self.actor_update_every_steps = validation.integer("agent.actor_update_every_steps", actor_update_every_steps)
        validation.real("agent.initial_temperature", initial_temperature, 0, open_low=True)
        self.temperature = self.add_network("temperature", Temperature(initial_temperature))
        self.encoder_target = self.add_target("encoder")
        self.critic_target = self.add_target("critic")
        self.add_optimizers("encoder", "actor", "critic", "temperature")

    def update_flags(self, step: int) -> dict[str, Hashable]:
        """Whether actor, temperature and targets are updated at environment step `step`."""
        return {"with_actor": step % self.actor_update_every_steps == 0}

    def learn(self, batch: Batch, *, with_actor: bool, power_iteration_factor: int) -> Metrics:
        """One update.

        Power iterations are as many as with `torch.nn.utils.spectral_norm`, which iterates at every forward pass in
        training mode: two per update in every network, for the two views, and one more per actor update in critic
        and actor.
        """
        views = self.augment(batch)
        metrics = self.update_critic_(batch, views)
        self.power_iterate_((2 + with_actor) * power_iteration_factor, "encoder", "critic")
        if with_actor:
            metrics |= self.update_actor_(views.obs)
            self.update_targets_()
        self.power_iterate_((2 + with_actor) * power_iteration_factor, "actor")
        self.power_iterate_(2 * power_iteration_factor, "encoder_target", "critic_target")
        return metrics

    def augment(self, batch: Batch) -> Views:
        """Two independent augmentations of each observation."""
        return Views(*(self.augmentation(obs) for obs in (batch.obs, batch.obs, batch.next_obs, batch.next_obs)))

    def critic_regression(self, batch: Batch, views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of both views, 0-d, on the mean of both targets; that mean (B,); Q values of the first view."""
        target = (self.td_target(batch, views.next_obs) + self.td_target(batch, views.next_obs_aug)) / 2
        q, q_aug = (self.critic(self.encoder(view), batch.action) for view in (views.obs, views.obs_aug))
        return losses.critic_loss(q, target) + losses.critic_loss(q_aug, target), target, q

    def update_critic_(self, batch: Batch, views: Views) -> Metrics:
        """Train critic and encoder on `critic_regression`."""
        loss, target, q = self.critic_regression(batch, views)
        return self.descend_critic_(batch, views.obs, loss, target, q)

    @torch.no_grad()
    def td_target(self, batch: Batch, next_obs: Tensor) -> Tensor:
        """Y = R + D (min Q_target(s', a') - alpha log pi(a' | s')) with a' ~ pi(s'): (B, C, H, W) -> (B,)."""
        next_action, log_prob, _ = self.sample_action(self.encoder(next_obs))
        next_q = self.critic_target(self.encoder_target(next_obs), next_action)
        next_value = losses.soft_value(next_q, log_prob, self.temperature())
        return losses.td_target(batch.reward, batch.discount, next_value)

    def update_actor_(self, obs: Tensor) -> Metrics:
        """Train the actor's trunk and head on the updated encoder and critic, and alpha towards the target entropy."""
        with torch.no_grad():
            features = self.encoder(obs)
        action, log_prob, pre_tanh = self.sample_action(features)
        actor_loss = losses.soft_actor_loss(self.critic(features, action), log_prob, self.temperature().detach())
        grad_norms = self.descend_(actor_loss, "actor")
        temperature = self.temperature()  # after the actor's step, so that a compiled update has two separate graphs
        temperature_loss = losses.temperature_loss(temperature, log_prob, self.target_entropy)
        grad_norms |= self.descend_(temperature_loss, "temperature")
        return grad_norms | {
            "actor_loss": actor_loss.detach(),
            "actor_log_prob": log_prob.detach().mean(),
            "actor_entropy": -log_prob.detach().mean(),
            "temperature": temperature.detach(),
            "temperature_loss": temperature_loss.detach(),
            **saturation_metrics(pre_tanh),
        }

    def sample_action(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encoder features (B, F) -> actions (B, A), their log-probabilities (B,) and means before the tanh (B, A)."""
        mean, log_std = self.actor(features).chunk(2, dim=-1)
        action, log_prob = squashed_normal_sample(mean, bounded_log_std(log_std), torch.randn_like(mean))
        return action, log_prob, mean

    def explore(self, features: Tensor) -> Tensor:
        """Actions sampled from the policy; see `ActorCriticAgent`."""
        return self.sample_action(features)[0]

    def pre_tanh_action(self, features: Tensor) -> Tensor:
        """See `ActorCriticAgent`."""
        mean: Tensor = self.actor(features).chunk(2, dim=-1)[0]
        return mean

    def critic_loss(self, batch: Batch) -> Tensor:
        """See `BaseAgent`."""
        return self.critic_regression(batch, self.augment(batch))[0]
