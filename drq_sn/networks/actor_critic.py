"""Actor and critic on top of the shared encoder, target copies, and SAC's temperature."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from drq_sn.networks.encoders import Trunk
from drq_sn.networks.initializers import orthogonal_init_
from drq_sn.networks.normalizers.base import Normalizer

HeadFactory = Callable[[int, int], nn.Module]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


class Actor(nn.Module):
    """Trunk and one head: encoder features -> the policy's parameters."""

    def __init__(
        self, feature_dim: int, out_dim: int, trunk_dim: int, head: HeadFactory, normalizer: Normalizer
    ) -> None:
        super().__init__()
        self.trunk = Trunk(feature_dim, trunk_dim)
        self.head = head(trunk_dim, out_dim)
        orthogonal_init_(self)
        normalizer.trunk_("actor", self.trunk)
        self.head = normalizer.head("actor", self.head)

    def forward(self, features: Tensor) -> Tensor:
        """(B, feature_dim) -> (B, out_dim)."""
        output: Tensor = self.head(self.trunk(features))
        return output


class Critic(nn.Module):
    """Trunk and two independent Q heads on concat(trunk(features), action)."""

    def __init__(
        self, feature_dim: int, action_dim: int, trunk_dim: int, head: HeadFactory, normalizer: Normalizer
    ) -> None:
        super().__init__()
        self.trunk = Trunk(feature_dim, trunk_dim)
        self.q1 = head(trunk_dim + action_dim, 1)
        self.q2 = head(trunk_dim + action_dim, 1)
        orthogonal_init_(self)
        normalizer.trunk_("critic", self.trunk)
        self.q1, self.q2 = normalizer.head("critic", self.q1), normalizer.head("critic", self.q2)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """(B, feature_dim) and (B, A) -> Q values (2, B)."""
        x = torch.cat([self.trunk(features), action], dim=-1)
        return torch.cat([self.q1(x), self.q2(x)], dim=-1).t()


def target_copy(module: AnyModule) -> AnyModule:
    """A copy without gradients: the initial target network."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def soft_update_(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Target <- (1 - tau) target + tau online, for parameters but not for buffers.

    The mean of two unit vectors is shorter than 1: averaging a normalizer's u and v would shrink
    sigma and make the target's outputs explode.
    """
    torch._foreach_lerp_(tuple(target.parameters()), tuple(online.parameters()), tau)  # one kernel for all parameters


@torch.no_grad()
def hard_update_(target: nn.Module, online: nn.Module) -> None:
    """Target <- online, parameters and buffers, a normalizer's u and v included."""
    torch._foreach_copy_(tuple(target.state_dict().values()), tuple(online.state_dict().values()))


class Temperature(nn.Module):
    """SAC's entropy weight alpha, kept positive by learning its logarithm."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.tensor(initial).log())

    def forward(self) -> Tensor:
        """alpha, 0-d."""
        return self.log_value.exp()
