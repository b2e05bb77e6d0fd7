"""Layers that know their own largest singular value, by power iteration (Miyato et al. 2018).

Two unit vectors u and v follow the leading singular pair of the weight. They are buffers: saved and
restored, never averaged into a target network, and moved by `power_iterate_` alone: neither by a
forward pass nor by a read of the weight.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.networks.normalizers.base import Found, Layers, Normalizer, check_layers, choose_layers, layers_of, replaced

INITIAL_POWER_ITERATIONS = 15
WARM_UP_UPDATES = 300
"""Updates of an agent during which u and v are iterated `WARM_UP_FACTOR` times as often.

Adam's first steps are nearly rank-one matrices of norm up to lr sqrt(out * in), added to an orthogonal
weight whose singular values are all equal: the leading singular vectors turn faster than later.
"""
WARM_UP_FACTOR = 10


class Strength(NamedTuple):
    """How sigma is estimated, and what is divided by it.

    Attributes:
        minimum_sigma: lambda in W / max(sigma, lambda); None divides by sigma itself.
        gradient_through_sigma: whether the gradient sees sigma as a function of W (Miyato) or as a
            constant (Gogianu's stopped rho).
        num_iterations: factor of the number of power iterations that an agent asks for.
    """

    minimum_sigma: float | None = None
    gradient_through_sigma: bool = True
    num_iterations: int = 1

    def __call__(self, sigma: Tensor) -> Tensor:
        """What to divide by where the layer's norm is `sigma`, 0-d."""
        if not self.gradient_through_sigma:
            sigma = sigma.detach()
        return sigma if self.minimum_sigma is None else sigma.clamp_min(self.minimum_sigma)


def unit(x: Tensor) -> Tensor:
    """`x` scaled to Euclidean length 1, whatever its shape."""
    return F.normalize(x.flatten(), dim=0).view_as(x)


def _random_unit(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return unit(torch.randn(shape, generator=generator))


class TrackedLinear(nn.Linear):
    """A linear layer that estimates its spectral norm and computes as any other.

    Args:
        linear: whose weight and bias it takes over.
        strength: how sigma is used.
        generator: of the initial u and v.

    Attributes:
        weight, bias: the unnormalized parameters, as in `nn.Linear`.
        u: (out,) left singular vector, a buffer of unit length.
        v: (in,) right singular vector, a buffer of unit length.
    """

    u: Tensor
    v: Tensor

    def __init__(self, linear: nn.Linear, strength: Strength, generator: torch.Generator) -> None:
        super().__init__(
            linear.in_features, linear.out_features, linear.bias is not None, device="meta"
        )  # draws nothing
        self.weight, self.bias = linear.weight, linear.bias
        self.strength = strength
        self.register_buffer("u", _random_unit((linear.out_features,), generator).to(self.weight))
        self.register_buffer("v", _random_unit((linear.in_features,), generator).to(self.weight))
        self.power_iterate_(INITIAL_POWER_ITERATIONS)

    @torch.no_grad()
    def power_iterate_(self, num_iterations: int = 1) -> None:
        """Move u and v toward the leading singular vectors of the present weight.

        Args:
            num_iterations: how often, times the factor in `strength`.
        """
        for _ in range(num_iterations * self.strength.num_iterations):
            self.v.copy_(unit(self.weight.t().mv(self.u)))
            self.u.copy_(unit(self.weight.mv(self.v)))

    def sigma(self) -> Tensor:
        """Estimated largest singular value, 0-d; its gradient treats u and v as constants."""
        return torch.dot(self.u, self.weight.mv(self.v))


class SpectralLinear(TrackedLinear):
    """y = W x / sigma + b with sigma = u^T W v."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out).

        v goes through the product as one more row: W v, which sigma needs, and sigma's share of the
        weight's gradient then cost no pass over the weight of their own.
        """
        y, wv = F.linear(torch.cat([x, self.v[None]]), self.weight).split([len(x), 1])
        divisor = self.strength(torch.dot(self.u, wv[0]))
        return y / divisor if self.bias is None else torch.addcmul(self.bias, y, divisor.reciprocal())


class SpectralConv2d(nn.Conv2d):
    """A convolution divided by its operator norm: that of the linear map from whole inputs to whole outputs.

    The norm depends on the input's size, and is not that of the kernel reshaped to a matrix (Gouk et
    al. 2020). Power iteration runs the convolution and its transpose.

    Args:
        conv: whose weight and bias it takes over; without padding, as all of the encoder's.
        input_size: (H, W) of what it is applied to.
        strength: how sigma is used.
        generator: of the initial v.

    Attributes:
        u: (1, out, H', W') and v: (1, in, H, W), buffers of unit length.
    """

    u: Tensor
    v: Tensor

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
            self.register_buffer("u", unit(self._convolve(self.v)))
        # rows and columns at the end that the stride leaves out
        self._uncovered = [(n - k) % s for n, k, s in zip(input_size, self.kernel_size, self.stride, strict=True)]
        self.power_iterate_(INITIAL_POWER_ITERATIONS)

    def _convolve(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, None, self.stride)

    @torch.no_grad()
    def power_iterate_(self, num_iterations: int = 1) -> None:
        """Move u and v toward the leading singular pair of the present convolution; see `TrackedLinear`."""
        for _ in range(num_iterations * self.strength.num_iterations):
            back = F.conv_transpose2d(self.u, self.weight, None, self.stride, output_padding=self._uncovered)
            self.v.copy_(unit(back))
            self.u.copy_(unit(self._convolve(self.v)))

    def sigma(self) -> Tensor:
        """Estimated operator norm, 0-d; its gradient treats u and v as constants."""
        return (self.u * self._convolve(self.v)).sum()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W'); sigma is computed anew for every call, as much as one more image."""
        return F.conv2d(x, self.weight / self.strength(self.sigma()), self.bias, self.stride)


def tracked_layers(module: nn.Module) -> dict[str, TrackedLinear | SpectralConv2d]:
    """Every layer inside `module` that estimates its spectral norm, by its dotted name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, TrackedLinear | SpectralConv2d)}


class Spectral(Normalizer):
    """Spectral normalization: chosen layers divided by their largest singular value (Miyato et al. 2018).

    Args:
        conv_layers: which convolutions of the encoder, in the words of `layers`; their norm is the operator's.
        trunk: whether the linear layers of these networks' trunks too.
        minimum_sigma, gradient_through_sigma, num_iterations: see `Strength`.
        heads: everything that `Normalizer` takes.
    """

    def __init__(
        self,
        *,
        conv_layers: Layers = "none",
        trunk: bool = False,
        minimum_sigma: float | None = None,
        gradient_through_sigma: bool = True,
        num_iterations: int = 1,
        **heads: Any,
    ) -> None:
        super().__init__(**heads)
        self.strength = checked_strength(minimum_sigma, gradient_through_sigma, num_iterations)
        self.conv_layers = check_layers("normalizer.conv_layers", conv_layers)
        self.normalizes_trunk = validation.boolean("normalizer.trunk", trunk)

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        return replaced(head, chosen, lambda layer: SpectralLinear(layer, self.strength, self.generator))

    def trunk_(self, network: str, trunk: nn.Module) -> None:
        """See `Normalizer`."""
        if self.normalizes_trunk and network in self.networks:
            self._normalized(trunk, layers_of(trunk, nn.Linear))

    def encoder_(self, encoder: nn.Module, obs_shape: tuple[int, int, int]) -> None:
        """See `Normalizer`."""
        chosen = choose_layers("normalizer.conv_layers", layers_of(encoder, nn.Conv2d), self.conv_layers)
        sizes = _input_sizes(encoder, obs_shape) if chosen else {}
        replaced(encoder, chosen, lambda layer: SpectralConv2d(layer, sizes[layer], self.strength, self.generator))


def _input_sizes(encoder: nn.Module, obs_shape: tuple[int, int, int]) -> dict[nn.Module, tuple[int, int]]:
    """(H, W) of what every convolution of `encoder` is applied to."""
    sizes: dict[nn.Module, tuple[int, int]] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: sizes.update({layer: tuple(inputs[0].shape[2:])}))
        for _, layer in layers_of(encoder, nn.Conv2d)
    ]
    with torch.no_grad():
        encoder(torch.zeros(1, *obs_shape))
    for hook in hooks:
        hook.remove()
    return sizes


def checked_strength(minimum_sigma: float | None, gradient_through_sigma: bool, num_iterations: int) -> Strength:
    """A `Strength` of options that a user may have set."""
    return Strength(
        None if minimum_sigma is None else validation.real("normalizer.minimum_sigma", minimum_sigma, 0, open_low=True),
        validation.boolean("normalizer.gradient_through_sigma", gradient_through_sigma),
        validation.integer("normalizer.num_iterations", num_iterations),
    )
