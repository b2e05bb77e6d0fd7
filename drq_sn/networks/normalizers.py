"""Normalisers: what is done to the linear layers of a head.

A normaliser is a callable that takes a freshly initialised head and returns it with some layers
replaced. Spectral normalisation keeps its vectors u and v as buffers, which only
`power_iterate_` changes: neither a forward pass nor a read of the weight does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn import checks

INITIAL_POWER_ITERATIONS = 15
LAYER_CHOICES = ("inner", "all", "last")


class SpectralLinear(nn.Linear):
    """y = W x / sigma + b with sigma = u^T W v, the largest singular value of W (Miyato et al. 2018).

    Attributes:
        weight, bias: the un-normalised parameters, as in `nn.Linear`.
        u: (out,) left singular vector, a buffer of unit length.
        v: (in,) right singular vector, a buffer of unit length.
    """

    u: Tensor
    v: Tensor

    def __init__(self, linear: nn.Linear, minimum_sigma: float | None, gradient_through_sigma: bool, num_iterations: int) -> None:
        super().__init__(
            linear.in_features, linear.out_features, linear.bias is not None, linear.weight.device, linear.weight.dtype
        )
        self.weight, self.bias = linear.weight, linear.bias
        self.minimum_sigma = minimum_sigma
        self.gradient_through_sigma = gradient_through_sigma
        self.num_iterations = num_iterations
        self.register_buffer("u", F.normalize(torch.randn_like(self.weight[:, 0]), dim=0))
        self.register_buffer("v", F.normalize(torch.randn_like(self.weight[0]), dim=0))
        for _ in range(INITIAL_POWER_ITERATIONS):
            self.power_iterate_()

    @torch.no_grad()
    def power_iterate_(self) -> None:
        """Move u and v `num_iterations` times toward the leading singular vectors of the present weight."""
        for _ in range(self.num_iterations):
            self.v.copy_(F.normalize(self.weight.t().mv(self.u), dim=0))
            self.u.copy_(F.normalize(self.weight.mv(self.v), dim=0))

    def sigma(self) -> Tensor:
        """Estimated largest singular value, 0-d; its gradient treats u and v as constants."""
        return torch.dot(self.u, self.weight.mv(self.v))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out).

        v goes through the product as one more row: W v, which sigma needs, and sigma's share of the
        weight's gradient then cost no pass over the weight of their own.
        """
        y, wv = F.linear(torch.cat([x, self.v[None]]), self.weight).split([len(x), 1])
        sigma = torch.dot(self.u, wv[0])
        if not self.gradient_through_sigma:
            sigma = sigma.detach()
        if self.minimum_sigma is not None:
            sigma = sigma.clamp_min(self.minimum_sigma)
        return y / sigma if self.bias is None else torch.addcmul(self.bias, y, sigma.reciprocal())


class Unnormalized:
    """Leaves the head as it is."""

    def __call__(self, head: nn.Module) -> nn.Module:
        """Return `head` itself."""
        return head


class Spectral:
    """Spectral normalisation of chosen linear layers of a head.

    Args:
        layers: `inner` (all but the first and the last: Bjorck 5.1), `all`, `last`, or Python-style
            indices such as `[-2]` (Gogianu et al. 2021).
        minimum_sigma: lambda in W / max(sigma, lambda); None divides by sigma itself.
        gradient_through_sigma: whether the gradient sees sigma as a function of W (Miyato) or as a
            constant (Gogianu's stopped rho).
        num_iterations: power iterations per update.
    """

    def __init__(
        self,
        layers: str | Sequence[int] = "inner",
        minimum_sigma: float | None = None,
        gradient_through_sigma: bool = True,
        num_iterations: int = 1,
    ) -> None:
        if isinstance(layers, str):
            checks.choice("normalizer.layers", layers, LAYER_CHOICES)
        elif not isinstance(layers, Sequence) or not all(isinstance(index, int) for index in layers):
            raise checks.InvalidInput(
                f"normalizer.layers={layers!r}: accepted is {', '.join(LAYER_CHOICES)} or a list of indices"
            )
        self.layers = layers
        self.minimum_sigma = (
            None if minimum_sigma is None else checks.real("normalizer.minimum_sigma", minimum_sigma, 0, open_low=True)
        )
        self.gradient_through_sigma = checks.boolean("normalizer.gradient_through_sigma", gradient_through_sigma)
        self.num_iterations = checks.integer("normalizer.num_iterations", num_iterations)

    def __call__(self, head: nn.Module) -> nn.Module:
        """Replace the chosen layers of an initialised `head`, in place, and return it."""
        linears = [(name, layer) for name, layer in head.named_modules() if isinstance(layer, nn.Linear)]
        for name, linear in _choose(linears, self.layers):
            head.set_submodule(name, SpectralLinear(linear, self.minimum_sigma, self.gradient_through_sigma, self.num_iterations))
        return head


def _choose(linears: list, layers: str | Sequence[int]) -> list:
    """The members of `linears` that `layers` names, each once and in order."""
    if isinstance(layers, str):
        return {"inner": linears[1:-1], "all": linears, "last": linears[-1:]}[layers]
    for index in layers:
        if not -len(linears) <= index < len(linears):
            raise checks.InvalidInput(
                f"normalizer.layers={list(layers)}: the head has {len(linears)} linear layers, so {index} is none of them"
            )
    return [linears[i] for i in sorted({index % len(linears) for index in layers})]


def spectral_layers(module: nn.Module) -> dict[str, SpectralLinear]:
    """Every spectrally normalised layer inside `module`, by its dotted name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, SpectralLinear)}
