"""Layers that estimate their largest singular value by power iteration (Miyato et al. 2018).

Unit vectors u and v approximate the leading singular vectors of the weight. They are buffers: saved and
restored, and never averaged into a target network. Only `power_iterate_` changes them; forward passes and
reads of the weight do not.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.networks.encoders import Conv2d
from drq_sn.networks.normalizers.base import NamedLayers, NormalizedLayer, chosen_input_sizes, replace_layers

INITIAL_POWER_ITERATIONS = 15
WARM_UP_UPDATES = 300
"""First updates of an agent, with `WARM_UP_FACTOR` times as many power iterations.

Adam's first steps add nearly rank-one matrices of norm up to lr sqrt(out * in) to an orthogonal weight,
whose singular values are all equal: the leading singular vectors change faster than later.
"""
WARM_UP_FACTOR = 10
MOST_ITERATIONS = 1000


class Strength(NamedTuple):
    """How sigma is estimated and used.

    Attributes:
        minimum_sigma: lambda in W / max(sigma, lambda); None divides by sigma.
        gradient_through_sigma: whether the gradient treats sigma as a function of W (Miyato) or as a
            constant (Gogianu's stopped rho).
        num_iterations: factor of the agent's number of power iterations.
    """

    minimum_sigma: float | None = None
    gradient_through_sigma: bool = True
    num_iterations: int = 1

    def __call__(self, sigma: Tensor) -> Tensor:
        """The divisor of a weight with spectral norm `sigma`, of its shape (one element)."""
        if not self.gradient_through_sigma:
            sigma = sigma.detach()
        return sigma if self.minimum_sigma is None else sigma.clamp_min(self.minimum_sigma)


def unit(x: Tensor) -> Tensor:
    """`x` scaled to Euclidean length 1, whatever its shape."""
    return F.normalize(x.flatten(), dim=0).view_as(x)


def _random_unit(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return unit(torch.randn(shape, generator=generator))


class Tracked(NormalizedLayer):
    """Base class of layers that estimate their spectral norm.

    Attributes:
        u: buffer of length 1, left singular vector.
        v: buffer of length 1, right singular vector.
    """

    u: Tensor
    v: Tensor
    strength: Strength

    def power_iterate_(self, num_iterations: int = 1) -> None:
        """Update u and v of this layer; see the function `power_iterate_`."""
        power_iterate_([self], num_iterations)

    def fit_buffers_(self) -> None:
        """See `NormalizedLayer`."""
        self.power_iterate_(INITIAL_POWER_ITERATIONS)

    @abc.abstractmethod
    def product(self, v: Tensor) -> Tensor:
        """W v, without bias, of the shape of u."""

    @abc.abstractmethod
    def transposed_product(self, u: Tensor) -> Tensor:
        """W^T u, of the shape of v."""

    @abc.abstractmethod
    def sigma(self) -> Tensor:
        """Estimated spectral norm, 0-d; its gradient treats u and v as constants."""


class TrackedLinear(Tracked, nn.Linear):
    """A linear layer that estimates its spectral norm; its output is not normalized.

    Args:
        linear: the layer whose parameters it takes over.
        strength: see `Strength`.
        generator: draws the initial u and v.

    Attributes:
        weight, bias: the unnormalized parameters, as in `nn.Linear`.
        u, v: (out,) and (in,).
    """

    def __init__(self, linear: nn.Linear, strength: Strength, generator: torch.Generator) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.strength = strength
        self.register_buffer("u", _random_unit((linear.out_features,), generator).to(self.weight))
        self.register_buffer("v", _random_unit((linear.in_features,), generator).to(self.weight))
        self.fit_buffers_()

    def product(self, v: Tensor) -> Tensor:
        """W v: (in,) -> (out,)."""
        return self.weight.mv(v)

    def transposed_product(self, u: Tensor) -> Tensor:
        """W^T u: (out,) -> (in,)."""
        return self.weight.t().mv(u)

    def sigma(self) -> Tensor:
        """See `Tracked`."""
        return torch.dot(self.u, self.product(self.v))


class TrackedConv2d(Tracked, Conv2d):
    """A convolution that estimates its operator norm; its output is not normalized.

    The norm is that of the linear map from input images to output images. It depends on the size of the input and is
    not that of the kernel reshaped to a matrix (Gouk et al. 2020). A power iteration applies the convolution and its
    transpose.

    Args:
        conv: the layer whose parameters it takes over; without padding, like all of ours.
        input_size: (H, W) of its input.
        strength: see `Strength`.
        generator: draws the initial v.

    Attributes:
        u, v: (1, out, H', W') and (1, in, H, W).
    """

    def __init__(
        self, conv: nn.Conv2d, input_size: tuple[int, int], strength: Strength, generator: torch.Generator
    ) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            bias=conv.bias is not None,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.strength = strength
        self.register_buffer("v", _random_unit((1, conv.in_channels, *input_size), generator).to(self.weight))
        with torch.no_grad():
            self.register_buffer("u", unit(self.product(self.v)))
        # rows and columns at the end of the input that the stride skips
        self._skipped = [(n - k) % s for n, k, s in zip(input_size, self.kernel_size, self.stride, strict=True)]
        self.fit_buffers_()

    def product(self, v: Tensor) -> Tensor:
        """The convolution of v, without bias: (1, in, H, W) -> (1, out, H', W')."""
        return F.conv2d(v, self.weight, None, self.stride)

    def transposed_product(self, u: Tensor) -> Tensor:
        """The transposed convolution of u: (1, out, H', W') -> (1, in, H, W)."""
        return F.conv_transpose2d(u, self.weight, None, self.stride, output_padding=self._skipped)

    def sigma(self) -> Tensor:
        """See `Tracked`."""
        return (self.u * self.product(self.v)).sum()


def tracked_layers(module: nn.Module) -> dict[str, Tracked]:
    """All layers inside `module` that estimate their spectral norm, by dotted name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, Tracked)}


def track_layers(
    head: nn.Module, chosen: NamedLayers, linear: Callable[[Any], nn.Module], conv: Callable[[Any, Any], nn.Module]
) -> nn.Module:
    """`replace_layers` by `linear(layer)` and `conv(layer, input_size)`."""
    sizes = chosen_input_sizes(head, chosen)
    return replace_layers(head, chosen, lambda layer: conv(layer, sizes[layer]) if layer in sizes else linear(layer))


def power_iterate_(layers: Sequence[Tracked], num_iterations: int = 1) -> None:
    """Update u and v of `layers` by `num_iterations` power iterations, times the factor in their `strength`.

    On a CPU one layer after the other, so that its weight stays in the cache; elsewhere together, in fewer kernels.
    """
    layers = [layer for layer in layers if not layer.weight.is_meta]  # of meta tensors, sizes alone are of interest
    on_cpu = any(layer.weight.device.type == "cpu" for layer in layers)
    for group in [[layer] for layer in layers] if on_cpu else [layers]:
        iterate_together_(group, num_iterations)


@torch.no_grad()
def iterate_together_(layers: Sequence[Tracked], num_iterations: int) -> None:
    """`power_iterate_` of all layers at once."""
    counts = [num_iterations * layer.strength.num_iterations for layer in layers]
    for i in range(max(counts, default=0)):
        iterated = [layer for layer, count in zip(layers, counts, strict=True) if i < count]
        _set_to_units_([layer.v for layer in iterated], [layer.transposed_product(layer.u) for layer in iterated])
        _set_to_units_([layer.u for layer in iterated], [layer.product(layer.v) for layer in iterated])


def _set_to_units_(targets: list[Tensor], vectors: list[Tensor]) -> None:
    """Set each of `targets` to its vector scaled to length 1; those of equal size together, in few kernels."""
    for size in {target.numel() for target in targets}:
        pairs = [(t, x.flatten()) for t, x in zip(targets, vectors, strict=True) if t.numel() == size]
        units = F.normalize(torch.stack([x for _, x in pairs]), dim=1)
        torch._foreach_copy_([t for t, _ in pairs], [u.view_as(t) for (t, _), u in zip(pairs, units, strict=True)])


def checked_strength(minimum_sigma: float | None, gradient_through_sigma: bool, num_iterations: int) -> Strength:
    """A `Strength` from user options."""
    return Strength(
        None if minimum_sigma is None else validation.real("normalizer.minimum_sigma", minimum_sigma, 0, open_low=True),
        gradient_through_sigma,
        validation.integer("normalizer.num_iterations", num_iterations, maximum=MOST_ITERATIONS),
    )
