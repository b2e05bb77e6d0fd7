"""Normalize-and-Project (Lyle et al. 2024): constant weight norms, whose effective learning rate is the schedule's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from drq_sn import validation
from drq_sn.networks.normalizers.base import NETWORKS, Layers, NamedLayers, Normalizer

RELUS = {torch.relu, F.relu, "relu", nn.ReLU}
NORMALIZED_NEXT = {nn.LayerNorm, *RELUS}  # consumers of normalized outputs: a LayerNorm is inserted before a ReLU


class ProjectedLinear(nn.Linear):
    """A linear layer that can be scaled back to its initial Frobenius norm.

    Args:
        linear: the layer whose parameters it takes over.
        bias: whether to keep the bias.

    Attributes:
        initial_norm: 0-d buffer.
    """

    initial_norm: Tensor

    def __init__(self, linear: nn.Linear, bias: bool) -> None:
        keeps_bias = bias and linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, keeps_bias, device="meta")
        self.weight = linear.weight
        if keeps_bias:
            self.bias = linear.bias
        self.register_buffer("initial_norm", linear.weight.detach().norm())

    @torch.no_grad()
    def project_(self) -> None:
        """Scale the weight back to its initial norm."""
        self.weight.mul_(self.initial_norm / self.weight.norm())


class NormalizeAndProject(Normalizer):
    """Chosen weights are projected to their initial Frobenius norm after every optimizer step.

    A LayerNorm is inserted between a chosen layer and a ReLU that follows it directly. A layer whose
    output enters only LayerNorms loses its bias, which those of the LayerNorms make redundant. A layer
    whose output also enters a residual sum keeps its bias and gets no LayerNorm: the projection bounds
    its weight, but the function is not invariant to the weight's scale. Gains and biases of LayerNorms
    are not projected, nor are target networks, whose averages of projected weights are slightly shorter.

    Args:
        networks: see `Normalizer`.
        layers: see `Normalizer`; all but the output layer by default.
    """

    def __init__(self, *, networks: Sequence[str] = NETWORKS, layers: Layers = "hidden") -> None:
        super().__init__(networks, layers)

    def _normalize(self, head: nn.Module, chosen: NamedLayers) -> nn.Module:
        consumers = _consumers(head)
        for name, layer in chosen:
            activated = not RELUS.isdisjoint(consumers[name])
            projected = ProjectedLinear(layer, bias=not consumers[name] <= NORMALIZED_NEXT)
            head.set_submodule(
                name, nn.Sequential(projected, nn.LayerNorm(layer.out_features)) if activated else projected
            )
        return head

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained: Sequence[nn.Module]) -> None:
        """See `Normalizer`."""
        super().step_(optimizer, network, trained)
        for layer in network.modules():
            if isinstance(layer, ProjectedLinear):
                layer.project_()


def _consumers(head: nn.Module) -> dict[str, set[Any]]:
    """Dotted name of every module that `head` calls -> consumers of its output: functions, or classes of modules."""
    try:
        nodes = fx.symbolic_trace(head).graph.nodes
    except Exception as error:  # tracing can raise anything
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
