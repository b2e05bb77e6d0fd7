"""What a Q network predicts of each action: the expected return, or the distribution of the return."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.agents import losses
from drq_sn.types import Batch


class ExpectedReturn(nn.Module):
    """One output: the expected return, with target R_n + D_n max_a Q(s_{t+n}, a) (Mnih et al. 2015).

    Args:
        huber: Huber loss instead of the mean squared error.

    Attributes:
        num_outputs: outputs of the network per action.
    """

    num_outputs = 1

    def __init__(self, huber: bool = False) -> None:
        super().__init__()
        self.huber = validation.boolean("agent.returns.huber", huber)

    def q_values(self, outputs: Tensor) -> Tensor:
        """(B, actions, num_outputs) -> Q values (B, actions)."""
        return outputs.squeeze(-1)

    def target(self, next_outputs: Tensor, batch: Batch) -> Tensor:
        """What the outputs of the batch's actions are regressed on, B rows, from outputs at the next observations."""
        return losses.td_target(batch.reward, batch.discount, self.q_values(next_outputs).amax(-1))

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Outputs of the batch's actions (B, num_outputs) and their target -> 0-d."""
        return losses.value_loss(outputs.squeeze(-1), target, self.huber)


class CategoricalReturn(nn.Module):
    """Logits of the return's distribution on equidistant atoms: C51 (Bellemare et al. 2017).

    The target is the distribution of the greedy action under the target network, moved by reward and discount.

    Args:
        num_atoms: number of atoms.
        v_min: first atom.
        v_max: last atom.
    """

    support: Tensor

    def __init__(self, num_atoms: int = 51, v_min: float = -10.0, v_max: float = 10.0) -> None:
        super().__init__()
        self.num_outputs = validation.integer("agent.returns.num_atoms", num_atoms, minimum=2)
        lowest = validation.real("agent.returns.v_min", v_min, float("-inf"))
        validation.real("agent.returns.v_max", v_max, lowest, open_low=True)
        self.register_buffer("support", torch.linspace(v_min, v_max, num_atoms))

    def q_values(self, outputs: Tensor) -> Tensor:
        """See `ExpectedReturn`."""
        return torch.softmax(outputs, -1) @ self.support

    def target(self, next_outputs: Tensor, batch: Batch) -> Tensor:
        """See `ExpectedReturn`."""
        probabilities = torch.softmax(next_outputs, -1)
        greedy = self.q_values(next_outputs).argmax(-1)
        chosen = probabilities[torch.arange(len(greedy), device=greedy.device), greedy]
        return losses.project_distribution(chosen, batch.reward, batch.discount, self.support)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """See `ExpectedReturn`."""
        return losses.distribution_loss(outputs, target)
