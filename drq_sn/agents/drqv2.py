"""DrQ-v2: DDPG from pixels, with n-step returns and image augmentation (Yarats et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.agents import losses
from drq_sn.agents.actor_critic import ActorCriticAgent, Components
from drq_sn.agents.distributions import clipped_normal_sample, normal_log_prob, saturation_metrics
from drq_sn.types import Batch, Metrics


class DrQV2(ActorCriticAgent):
    """Every update trains critic and encoder, then the actor, then moves the target critic.

    Args:
        components: see `Components`.
        std_schedule: environment step -> standard deviation of the exploration noise.
        noise_clip: largest absolute value of the noise in learning; in acting it is not clipped.
    """

    metric_names = (
        "critic_loss", "critic_target", "q1", "q2", "actor_loss", "actor_log_prob", "actor_entropy",
        "actor_preactivation", "actor_preactivation_max", "actor_saturation", "std", "batch_reward",
        "grad_norm/encoder", "grad_norm/critic", "grad_norm/actor",
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
        std_schedule: Callable[[int], float],
        noise_clip: float,
    ) -> None:
        super().__init__(
            components,
            policy_dim=components.action_dim,
            pixel_offset=pixel_offset,
            num_filters=num_filters,
            trunk_dim=trunk_dim,
            tau=tau,
            adam_eps=adam_eps,
        )
        self.std_schedule = std_schedule
        validation.real("agent.std_schedule at step 0", std_schedule(0), 0)
        self.noise_clip = validation.real("agent.noise_clip", noise_clip, 0, open_low=True)
        self.std = torch.zeros((), device=self.device)
        self.critic_target = self.add_target("critic")
        self.add_optimizers("encoder", "actor", "critic")

    def at_step_(self, step: int) -> None:
        """Set the standard deviation of the noise."""
        self.std.fill_(self.std_schedule(step))

    def learn(self, batch: Batch, *, power_iteration_factor: int) -> Metrics:
        """One update.

        Power iterations are as many as with `torch.nn.utils.spectral_norm`, which iterates at every forward pass in
        training mode: two per update in critic and actor, one in the target.
        """
        obs, next_obs = self.augmentation(batch.obs), self.augmentation(batch.next_obs)
        features = self.encoder(obs)
        metrics = self.update_critic_(batch, obs, features, next_obs)
        self.power_iterate_(2 * power_iteration_factor, "encoder", "critic")
        metrics |= self.update_actor_(features.detach())
        self.power_iterate_(2 * power_iteration_factor, "actor")
        self.update_targets_()
        self.power_iterate_(1 * power_iteration_factor, "critic_target")
        return metrics

    def update_critic_(self, batch: Batch, obs: Tensor, features: Tensor, next_obs: Tensor) -> Metrics:
        """Regress Q on the target and train the encoder through it; `features` (B, F) are those of `obs`."""
        target = self.td_target(batch, next_obs)
        q = self.critic(features, batch.action)
        loss = losses.critic_loss(q, target)
        return self.descend_critic_(batch, obs, loss, target, q)

    @torch.no_grad()
    def td_target(self, batch: Batch, next_obs: Tensor) -> Tensor:
        """Y = R_n + D_n min Q_target(h, a') with h = encoder(s_{t+n}) and a' = pi(h) + clipped noise: -> (B,)."""
        next_features = self.encoder(next_obs)
        next_action = self.sample_action(self.mean_action(next_features), self.noise_clip)
        next_value = losses.clipped_double_q(self.critic_target(next_features, next_action))
        return losses.td_target(batch.reward, batch.discount, next_value)

    def update_actor_(self, features: Tensor) -> Metrics:
        """Ascend min Q at the policy's noisy actions; `features` (B, F) are detached, from before the critic's step."""
        pre_tanh = self.pre_tanh_action(features)
        mean = torch.tanh(pre_tanh)
        action = self.sample_action(mean, self.noise_clip)
        loss = losses.deterministic_actor_loss(self.critic(features, action))
        grad_norms = self.descend_(loss, "actor")
        with torch.no_grad():
            return grad_norms | {
                "actor_loss": loss.detach(),
                "actor_log_prob": normal_log_prob(action, mean, self.std).mean(),
                "actor_entropy": mean.shape[-1] * (0.5 + 0.5 * math.log(2 * math.pi) + torch.log(self.std)),
                "std": self.std.clone(),
                **saturation_metrics(pre_tanh),
            }

    def sample_action(self, mean: Tensor, noise_clip: float | None) -> Tensor:
        """Means (B, A) plus Gaussian noise, clamped to the action range; `noise_clip` None leaves it unclipped."""
        return clipped_normal_sample(mean, self.std, torch.randn_like(mean), noise_clip)

    def explore(self, features: Tensor) -> Tensor:
        """Mean actions plus unclipped noise; see `ActorCriticAgent`."""
        return self.sample_action(self.mean_action(features), noise_clip=None)

    def pre_tanh_action(self, features: Tensor) -> Tensor:
        """See `ActorCriticAgent`."""
        pre_tanh: Tensor = self.actor(features)
        return pre_tanh

    def critic_loss(self, batch: Batch) -> Tensor:
        """See `BaseAgent`."""
        obs, next_obs = self.augmentation(batch.obs), self.augmentation(batch.next_obs)
        q = self.critic(self.encoder(obs), batch.action)
        return losses.critic_loss(q, self.td_target(batch, next_obs))
