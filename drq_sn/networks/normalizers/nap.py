"""Normalize-and-Project (Lyle et al. 2024): weights keep their norms, so the learning rate is what the schedule says."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from drq_sn import validation
from drq_sn.networks.normalizers.base import Found, Layers, Normalizer

RELUS = {torch.relu, F.relu, "relu", nn.ReLU}
NORMALIZED_NEXT = {nn.LayerNorm, *RELUS}  # in front of a ReLU a LayerNorm is put


class ProjectedLinear(nn.Linear):
    """A linear layer that can return to the Frobenius norm it began with.

    Args:
        linear: whose weight it takes over.
        bias: whether it keeps the bias.

    Attributes:
        initial_norm: 0-d, a buffer.
    """

    initial_norm: Tensor

    def __init__(self, linear: nn.Linear, bias: bool) -> None:
        keeps_bias = bias and linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, keeps_bias, device="meta")  # draws nothing
        self.weight = linear.weight
        if keeps_bias:
            self.bias = linear.bias
        self.register_buffer("initial_norm", linear.weight.detach().norm())

    @torch.no_grad()
    def project_(self) -> None:
        """Scale the weight back to its initial norm."""
        self.weight.mul_(self.initial_norm / self.weight.norm())


class NormalizeAndProject(Normalizer):
    """Chosen weights projected to their initial Frobenius norm after every step of their optimizer.

    Where a chosen layer's output meets a ReLU unnormalized, a LayerNorm is put between them. If it goes
    nowhere but into a LayerNorm, that one's bias takes the place of the layer's, which is dropped. A layer
    that also enters a residual sum keeps its bias and gets no LayerNorm: there the projection bounds the
    weight, but the function is not invariant to its scale. LayerNorms keep their gains and biases,
    unprojected. Target networks are averages of projected weights, a little shorter, and not projected.

    Args:
        layers: all but the output's unless said otherwise; see `Normalizer`.
        heads: everything else that `Normalizer` takes.
    """

    def __init__(self, *, layers: Layers = "hidden", **heads: Any) -> None:
        super().__init__(layers=layers, **heads)

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        consumers = _consumers(head)
        for name, layer in chosen:
            activated = not RELUS.isdisjoint(consumers[name])
            projected = ProjectedLinear(layer, bias=not consumers[name] <= NORMALIZED_NEXT)
            head.set_submodule(
                name, nn.Sequential(projected, nn.LayerNorm(layer.out_features)) if activated else projected
            )
        return head

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained_through: nn.Module) -> None:
        """See `Normalizer`."""
        optimizer.step()
        for layer in network.modules():
            if isinstance(layer, ProjectedLinear):
                layer.project_()


def _consumers(head: nn.Module) -> dict[str, set[Any]]:
    """Dotted name of every module that `head` calls -> what its output goes to: functions, or classes of modules."""
    try:
        nodes = fx.symbolic_trace(head).graph.nodes
    except Exception as error:  # whatever a head does that cannot be traced
        raise validation.InvalidInput(
            f"normalizer=nap: {type(head).__name__} cannot be traced ({str(error).splitlines()[0]}); "
            "its forward pass must not depend on values"
        ) from error
    modules = dict(head.named_modules())
    return {
        node.target: {type(modules[user.target]) if user.op == "call_module" else user.target for user in node.users}
        for node in nodes
        if node.op == "call_module"
    }
