"""DQN and C51: Q-learning with one network for all actions (Mnih et al. 2015; Bellemare et al. 2017)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.agents.base import BaseAgent, BaseComponents
from drq_sn.agents.returns import CategoricalReturn, ExpectedReturn
from drq_sn.networks.actor_critic import hard_update_
from drq_sn.types import Batch, Metrics

QNetworkFactory = Callable[[tuple[int, int, int], int], nn.Module]
"""Shape of an observation and number of outputs -> network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class QComponents(BaseComponents):
    """What DQN is built from besides its options.

    Attributes:
        num_actions: number of actions.
    """

    num_actions: int


class DQN(BaseAgent):
    """Q-learning with a target network that is copied every `copy_target_every_steps` steps.

    u and v are iterated once per update in the online and in the target network. The published code of Gogianu et al.
    (2021) iterates at every forward pass in training mode, acting included: up to five times per update.

    Args:
        components: see `QComponents`.
        q_network: builds the network.
        returns: what it predicts.
        adam_eps: see `BaseAgent`.
        epsilon_schedule: environment step -> probability of a uniform action while training.
        eval_epsilon: the same in evaluations.
        copy_target_every_steps: period of target copies, in environment steps.
    """

    has_discrete_actions = True
    warm_up_factor = 1  # singular values of Xavier-uniform weights differ: the estimate needs no more
    metric_names = ("critic_loss", "q", "q_greedy", "epsilon", "batch_reward", "grad_norm/q_network")

    def __init__(
        self,
        components: QComponents,
        *,
        q_network: QNetworkFactory,
        returns: ExpectedReturn | CategoricalReturn,
        adam_eps: float,
        epsilon_schedule: Callable[[int], float],
        eval_epsilon: float,
        copy_target_every_steps: int,
    ) -> None:
        super().__init__(components, adam_eps=adam_eps)
        self.num_actions, self.returns = components.num_actions, returns.to(self.device)
        self.epsilon_schedule = epsilon_schedule
        validation.real("agent.epsilon_schedule at step 0", epsilon_schedule(0), 0, 1)
        self.eval_epsilon = validation.real("agent.eval_epsilon", eval_epsilon, 0, 1)
        self.copy_target_every_steps = validation.integer("agent.copy_target_every_steps", copy_target_every_steps)
        network = q_network(components.obs_shape, self.num_actions * returns.num_outputs)
        self.q_network = self.add_network("q_network", self.normalizer.head("critic", network))
        self.q_network_target = self.add_target("q_network")
        self.add_optimizers("q_network")
        self._epsilon = torch.zeros((), device=self.device)

    def update_flags(self, step: int) -> dict[str, Hashable]:
        """Whether the target network is copied at environment step `step`."""
        return {"copies_target": step % self.copy_target_every_steps == 0}

    def at_step_(self, step: int) -> None:
        """Set the reported probability of a uniform action."""
        self._epsilon.fill_(self.epsilon_schedule(step))

    def learn(self, batch: Batch, *, copies_target: bool, power_iteration_factor: int) -> Metrics:
        """One update."""
        self.power_iterate_(power_iteration_factor, "q_network", "q_network_target")
        outputs = self.outputs(self.q_network, batch.obs)
        loss = self.returns.loss(self.of_actions(outputs, batch.action), self.td_target(batch))
        grad_norms = self.descend_(loss, "q_network")
        if copies_target:
            hard_update_(self.q_network_target, self.q_network)
        q = self.returns.q_values(outputs.detach())
        return grad_norms | {
            "critic_loss": loss.detach(),
            "q": q.mean(),
            "q_greedy": q.amax(-1).mean(),
            "epsilon": self._epsilon.clone(),
            "batch_reward": batch.reward.mean(),
        }

    @torch.no_grad()
    def td_target(self, batch: Batch) -> Tensor:
        """What the outputs of the batch's actions are regressed on; see `ExpectedReturn`."""
        return self.returns.target(self.outputs(self.q_network_target, batch.next_obs), batch)

    def critic_loss(self, batch: Batch) -> Tensor:
        """See `BaseAgent`."""
        outputs = self.of_actions(self.outputs(self.q_network, batch.obs), batch.action)
        return self.returns.loss(outputs, self.td_target(batch))

    def q_values(self, obs: Tensor) -> Tensor:
        """(B, C, H, W) -> Q values of all actions (B, actions)."""
        return self.returns.q_values(self.outputs(self.q_network, obs))

    def value(self, obs: Tensor) -> Tensor:
        """The largest Q value; see `BaseAgent`."""
        return self.q_values(obs).amax(-1)

    def outputs(self, network: nn.Module, obs: Tensor) -> Tensor:
        """(B, C, H, W) -> outputs (B, actions, outputs per action)."""
        outputs: Tensor = network(obs).view(len(obs), self.num_actions, -1)
        return outputs

    def of_actions(self, outputs: Tensor, action: Tensor) -> Tensor:
        """The outputs (B, actions, N) of actions (B, 1): -> (B, N)."""
        return outputs.gather(1, action[:, :, None].expand(-1, -1, outputs.shape[-1])).squeeze(1)

    def act(self, obs: np.ndarray | Tensor, step: int = 0, explore: bool = False) -> np.ndarray:
        """Stacked frames (C, H, W) uint8 -> action, 0-d int64; uniform with the probability of training or evaluation.

        Uniform actions are drawn from torch's generator on the host.
        """
        epsilon = self.epsilon_schedule(step) if explore else self.eval_epsilon
        if epsilon > 0 and float(torch.rand(())) < epsilon:
            uniform: np.ndarray = torch.randint(self.num_actions, ()).numpy()
            return uniform
        return super().act(obs, step, explore)

    def _action(self, obs: Tensor, explore: bool) -> Tensor:
        """(B, C, H, W) -> greedy actions (B,) int64."""
        del explore
        return self.q_values(obs).argmax(-1)
