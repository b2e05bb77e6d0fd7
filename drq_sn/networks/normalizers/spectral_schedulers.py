"""Spectral schedulers: DivOut, DivGrad, MulEps (Gogianu et al. 2021, section 5.4).

All three use rho = prod max(sigma_i, lambda) over the chosen layers of a head, which are not normalized.
The rho of a head applies to its parameters. Parameters that several heads share (the critic's trunk and the
encoder) use the geometric mean of these heads' rhos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.networks.normalizers.base import NETWORKS, Layers, NamedLayers, Normalizer
from drq_sn.networks.normalizers.power_iteration import (
    TrackedConv2d,
    TrackedLinear,
    checked_strength,
    track_layers,
    tracked_layers,
)

SCOPES = ("product", "layer")


class TrackedHead(nn.Module):
    """A head with its rho; its output is unchanged."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    @torch.no_grad()
    def rho(self) -> Tensor:
        """Product of the tracked layers' spectral norms, 0-d, without gradient."""
        return torch.stack([layer.strength(layer.sigma()) for layer in tracked_layers(self.head).values()]).prod()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, out_dim)."""
        output: Tensor = self.head(x)
        return output


class DividedHead(TrackedHead):
    """A head with its output divided by its rho."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, out_dim)."""
        return super().forward(x) / self.rho()


class RhoNormalizer(Normalizer):
    """Base class of the schedulers: wraps heads to compute their rho.

    Args:
        networks: see `Normalizer`.
        layers: see `Normalizer`.
        minimum_sigma: see `Strength`.
        num_iterations: see `Strength`.
    """

    kinds = (nn.Linear, nn.Conv2d)
    wrapper: type[TrackedHead] = TrackedHead

    def __init__(
        self,
        *,
        networks: Sequence[str] = NETWORKS,
        layers: Layers = "inner",
        minimum_sigma: float | None = None,
        num_iterations: int = 1,
    ) -> None:
        super().__init__(networks, layers)
        self.strength = checked_strength(minimum_sigma, False, num_iterations)

    def _normalize(self, head: nn.Module, chosen: NamedLayers) -> nn.Module:
        tracked = track_layers(
            head,
            chosen,
            lambda layer: TrackedLinear(layer, self.strength, self.generator),
            lambda layer, size: TrackedConv2d(layer, size, self.strength, self.generator),
        )
        return self.wrapper(tracked) if chosen else head


class DivOut(RhoNormalizer):
    """The output of the unnormalized head is divided by rho: SN with rescaled biases (eqs. 5-10)."""

    wrapper = DividedHead


class DivGrad(RhoNormalizer):
    """Gradients are divided by rho before the optimizer step; networks compute the same as without.

    Args:
        scope: `product`: all gradients by rho (section 5.4); `layer`: the weight gradient of each chosen layer by its
            own max(sigma, lambda), as the published code does.
        options: see `RhoNormalizer`.
    """

    def __init__(self, *, scope: str = "product", **options: Any) -> None:
        super().__init__(**options)
        self.scope = validation.choice("normalizer.scope", scope, SCOPES)

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained: Sequence[nn.Module]) -> None:
        """See `Normalizer`."""
        layers = tracked_layers(network).values()
        by_layer = ((layer.strength(layer.sigma().detach()), [layer.weight]) for layer in layers)
        for rho, parameters in _group_by_rho(network, trained) if self.scope == "product" else by_layer:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], rho)
        optimizer.step()


class MulEps(RhoNormalizer):
    """Adam's epsilon, outside the square root, is multiplied by rho (eq. 16).

    PyTorch's Adam takes epsilon as a Python number, and rho must stay on the device, so the step is
    implemented here, on PyTorch's state.
    """

    compilable = False  # compiled updates differ from eager ones by 1e-3 from the second update on

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained: Sequence[nn.Module]) -> None:
        """See `Normalizer`."""
        groups = list(_group_by_rho(network, trained))
        for rho, parameters in groups:
            _adam_step_(optimizer, parameters, rho)
        if not groups:
            optimizer.step()


def _group_by_rho(network: nn.Module, trained: Sequence[nn.Module]) -> Iterator[tuple[Tensor, list[nn.Parameter]]]:
    """Each rho, 0-d, with the parameters of `network` it applies to; empty if no head of `trained` has a rho."""
    heads = [module for each in trained for module in each.modules() if isinstance(module, TrackedHead)]
    if not heads:
        return
    rhos = torch.stack([head.rho() for head in heads])
    shared = {id(parameter): parameter for parameter in network.parameters()}
    for rho, head in zip(rhos, heads, strict=True):
        parameters = [shared.pop(id(parameter)) for parameter in head.parameters() if id(parameter) in shared]
        if parameters:
            yield rho, parameters
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
    """The state of PyTorch's fused Adam for a parameter, created if there has been no step."""
    state: dict[str, Tensor] = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    return state
