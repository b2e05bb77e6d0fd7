"""What of spectral normalisation acts on the optimiser: DivOut, DivGrad and MulEps (Gogianu et al. 2021, 5.4).

All three rest on rho = prod max(sigma_i, lambda) over the chosen layers S of a head, whose layers stay
as they are. Each head has a rho of its own, which goes with its parameters. What several heads
share (the critic's trunk, and the encoder, which learns through the critic) goes with the geometric
mean of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from drq_sn.networks.normalizers import Found, Normalizer, replaced
from drq_sn.networks.spectral import TrackedLinear, tracked_layers


class TrackedHead(nn.Module):
    """A head that computes as it is, and knows its rho."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    @torch.no_grad()
    def rho(self) -> Tensor:
        """Product of the tracked layers' norms, 0-d, without gradient."""
        return torch.stack([layer.strength(layer.sigma()) for layer in tracked_layers(self.head).values()]).prod()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, out_dim)."""
        return self.head(x)


class DividedHead(TrackedHead):
    """A head whose output is divided by its rho."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, out_dim)."""
        return self.head(x) / self.rho()


class DivOut(Normalizer):
    """The un-normalised head's output divided by rho: spectral normalisation with biases scaled along (eqs. 5-10)."""

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        return DividedHead(_tracked(head, chosen, self)) if chosen else head


class DivGrad(Normalizer):
    """Gradients divided by rho on their way to the optimiser; what networks compute does not change."""

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        return TrackedHead(_tracked(head, chosen, self)) if chosen else head

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained_through: nn.Module) -> None:
        """See `Normalizer`."""
        for rho, parameters in _rho_of_parameters(network, trained_through):
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], rho)
        optimizer.step()


class MulEps(Normalizer):
    """Adam's epsilon, outside the square root, multiplied by rho (eq. 16).

    m / (sqrt(v) + rho eps) = (m / rho) / (sqrt(v / rho^2) + eps), so gradients and moments are scaled
    before Adam's own step and back after it; no number leaves the device.
    """

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        return TrackedHead(_tracked(head, chosen, self)) if chosen else head

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained_through: nn.Module) -> None:
        """See `Normalizer`."""
        groups = list(_rho_of_parameters(network, trained_through))
        for rho, parameters in groups:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], rho)
            _scale_moments_(optimizer, parameters, rho.reciprocal())
        optimizer.step()
        for rho, parameters in groups:
            _scale_moments_(optimizer, parameters, rho)


def _tracked(head: nn.Module, chosen: Found, normalizer: Normalizer) -> nn.Module:
    return replaced(head, chosen, lambda layer: TrackedLinear(layer, normalizer.strength))


def _rho_of_parameters(network: nn.Module, trained_through: nn.Module) -> Iterator[tuple[Tensor, list[nn.Parameter]]]:
    """Every rho that acts on `network`, with the parameters it acts on; nothing where no head is tracked."""
    heads = [module for module in trained_through.modules() if isinstance(module, TrackedHead)]
    if not heads:
        return
    shared = dict(network.named_parameters())
    rhos = torch.stack([head.rho() for head in heads])
    for rho, head in zip(rhos, heads, strict=True):
        ids = {id(p) for p in head.parameters()}
        own = [name for name, p in shared.items() if id(p) in ids]
        if own:
            yield rho, [shared.pop(name) for name in own]
    if shared:
        yield rhos.log().mean().exp(), list(shared.values())


def _scale_moments_(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], factor: Tensor) -> None:
    """Multiply Adam's first moments by `factor` and its second by the square; there are none before the first step."""
    states = [optimizer.state[p] for p in parameters if optimizer.state[p]]
    if states:
        torch._foreach_mul_([state["exp_avg"] for state in states], factor)
        torch._foreach_mul_([state["exp_avg_sq"] for state in states], factor.square())
