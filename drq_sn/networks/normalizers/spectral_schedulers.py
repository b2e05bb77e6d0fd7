"""Spectral schedulers: DivOut, DivGrad, MulEps (Gogianu et al. 2021, section 5.4).

All three rest on rho = prod max(sigma_i, lambda) over the chosen layers S of a head, whose layers stay
as they are. Each head has a rho of its own, which goes with its parameters. What several heads
share (the critic's trunk, and the encoder, which learns through the critic) goes with the geometric
mean of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from drq_sn.networks.normalizers.base import Found, Normalizer, replaced
from drq_sn.networks.normalizers.spectral import TrackedLinear, checked_strength, tracked_layers


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


class RhoNormalizer(Normalizer):
    """What the three below share: heads that know their rho.

    Args:
        minimum_sigma, num_iterations: see `Strength`.
        heads: everything that `Normalizer` takes.
    """

    wrapper: type[TrackedHead] = TrackedHead

    def __init__(self, *, minimum_sigma: float | None = None, num_iterations: int = 1, **heads: Any) -> None:
        super().__init__(**heads)
        self.strength = checked_strength(minimum_sigma, False, num_iterations)

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        tracked = replaced(head, chosen, lambda layer: TrackedLinear(layer, self.strength, self.generator))
        return self.wrapper(tracked) if chosen else head


class DivOut(RhoNormalizer):
    """The unnormalized head's output divided by rho: spectral normalization with biases scaled along (eqs. 5-10)."""

    wrapper = DividedHead


class DivGrad(RhoNormalizer):
    """Gradients divided by rho on their way to the optimizer; what networks compute does not change."""

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained_through: nn.Module) -> None:
        """See `Normalizer`."""
        for rho, parameters in _rho_of_parameters(network, trained_through):
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], rho)
        optimizer.step()


class MulEps(RhoNormalizer):
    """Adam's epsilon, outside the square root, multiplied by rho (eq. 16).

    PyTorch's Adam takes epsilon as a number, and rho must not leave the device, so the step is
    written out here; its state is that of PyTorch's.
    """

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained_through: nn.Module) -> None:
        """See `Normalizer`."""
        groups = list(_rho_of_parameters(network, trained_through))
        for rho, parameters in groups:
            _adam_step_(optimizer, parameters, rho)
        if not groups:
            optimizer.step()


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


def _adam_step_(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], rho: Tensor) -> None:
    """Adam (Kingma and Ba 2015) on `parameters` with epsilon times `rho`, 0-d."""
    group = optimizer.param_groups[0]
    beta1, beta2 = group["betas"]
    states = [_state(optimizer, p) for p in parameters]
    gradients = [p.grad for p in parameters if p.grad is not None]
    steps, means, squares = ([state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq"))
    torch._foreach_add_(steps, 1)
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    step = steps[0].double()  # the same for all
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    denominators = torch._foreach_sqrt(squares)
    torch._foreach_div_(denominators, correction2.sqrt())
    torch._foreach_add_(denominators, group["eps"] * rho)
    updates = torch._foreach_div(means, denominators)
    torch._foreach_mul_(updates, -group["lr"] / correction1)
    torch._foreach_add_([p.data for p in parameters], list(updates))


def _state(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """What PyTorch's fused Adam keeps of a parameter, made before its first step."""
    state = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    return state
