"""Normalize-and-Project (Lyle et al. 2024): constant weight norms, whose effective learning rate is the schedule's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from drq_sn import validation
from drq_sn.networks.normalizers.base import (
    NETWORKS,
    Layers,
    NamedLayers,
    NormalizedLayer,
    Normalizer,
    chosen_input_sizes,
)

RELUS = {torch.relu, F.relu, "relu", nn.ReLU}
NORMALIZED_NEXT = {nn.LayerNorm, *RELUS}  # consumers of normalized outputs: a LayerNorm is inserted before a ReLU


class Projected(NormalizedLayer):
    """Base class of layers that can be scaled back to their initial Frobenius norm.

    Attributes:
        initial_norm: 0-d buffer.
    """

    initial_norm: Tensor

    @torch.no_grad()
    def fit_buffers_(self) -> None:
        """See `NormalizedLayer`."""
        self.initial_norm.copy_(self.weight.norm())

    @torch.no_grad()
    def project_(self) -> None:
        """Scale the weight back to its initial norm."""
        self.weight.mul_(self.initial_norm / self.weight.norm())


class ProjectedLinear(Projected, nn.Linear):
    """A linear layer that can be projected.

    Args:
        linear: the layer whose parameters it takes over.
        bias: whether to keep the bias.
    """

    def __init__(self, linear: nn.Linear, bias: bool) -> None:
        keeps_bias = bias and linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, keeps_bias, device="meta")
        self.weight = linear.weight
        if keeps_bias:
            self.bias = linear.bias
        self.register_buffer("initial_norm", linear.weight.detach().norm())


class ProjectedConv2d(Projected, nn.Conv2d):
    """A convolution that can be projected; see `ProjectedLinear`."""

    def __init__(self, conv: nn.Conv2d, bias: bool) -> None:
        keeps_bias = bias and conv.bias is not None
        kernel, stride = conv.kernel_size, conv.stride
        super().__init__(conv.in_channels, conv.out_channels, kernel, stride, bias=keeps_bias, device="meta")  # type: ignore[arg-type]
        self.weight = conv.weight
        if keeps_bias:
            self.bias = conv.bias
        self.register_buffer("initial_norm", conv.weight.detach().norm())


class NormalizeAndProject(Normalizer):
    """Chosen weights are projected to their initial Frobenius norm after every optimizer step.

    A LayerNorm is inserted between a chosen layer and a ReLU that follows it directly; after a convolution it is over
    channels, height and width together, our reading of a paper that does not say. A layer whose
    output enters only LayerNorms loses its bias, which those of the LayerNorms make redundant. A layer
    whose output also enters a residual sum keeps its bias and gets no LayerNorm: the projection bounds
    its weight, but the function is not invariant to the weight's scale. Gains and biases of LayerNorms
    are not projected, nor are target networks, whose averages of projected weights are slightly shorter.

    Args:
        networks: see `Normalizer`.
        layers: see `Normalizer`; all but the output layer by default.
    """

    kinds = (nn.Linear, nn.Conv2d)

    def __init__(self, *, networks: Sequence[str] = NETWORKS, layers: Layers = "hidden") -> None:
        super().__init__(networks, layers)

    def _normalize(self, head: nn.Module, chosen: NamedLayers) -> nn.Module:
        consumers = _consumers(head)
        sizes = chosen_input_sizes(head, chosen)
        for name, layer in chosen:
            activated = not RELUS.isdisjoint(consumers[name])
            keeps_bias = not consumers[name] <= NORMALIZED_NEXT
            if layer in sizes:
                projected: Projected = ProjectedConv2d(layer, keeps_bias)
                dimensions = zip(sizes[layer], layer.kernel_size, layer.stride, strict=True)
                shape = [layer.out_channels, *((size - kernel) // stride + 1 for size, kernel, stride in dimensions)]
            else:
                projected, shape = ProjectedLinear(layer, keeps_bias), [layer.out_features]
            head.set_submodule(name, nn.Sequential(projected, nn.LayerNorm(shape)) if activated else projected)
        return head

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained: Sequence[nn.Module]) -> None:
        """See `Normalizer`."""
        super().step_(optimizer, network, trained)
        for layer in network.modules():
            if isinstance(layer, Projected):
                layer.project_()


def _consumers(head: nn.Module) -> dict[str, set[Any]]:
    """Dotted name of every module that `head` calls -> consumers of its output: functions, or classes of modules."""
    try:
        nodes = fx.symbolic_trace(head).graph.nodes
    except Exception as error:  # tracing can raise anything
        raise validation.InvalidInput(
            f"normalizer=nap: {type(head).__name__} cannot be traced ({validation.first_line(error)}); "
            "its forward pass must not depend on values"
        ) from error
    modules = dict(head.named_modules())
    return {
        node.target: {type(modules[user.target]) if user.op == "call_module" else user.target for user in node.users}
        for node in nodes
        if node.op == "call_module"
    }
