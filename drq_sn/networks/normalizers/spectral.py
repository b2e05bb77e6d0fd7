"""Spectral normalization: layers divided by their largest singular value (Miyato et al. 2018; Bjorck et al. 2021)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.networks.normalizers.base import (
    NETWORKS,
    Layers,
    NamedLayers,
    Normalizer,
    check_layers,
    choose_layers,
    layers_of,
)
from drq_sn.networks.normalizers.power_iteration import (
    TrackedConv2d,
    TrackedLinear,
    checked_strength,
    track_layers,
)

GRADIENT = "normalizer.gradient_through_sigma"


class SpectralLinear(TrackedLinear):
    """y = W x / sigma + b with sigma = u^T W v."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out).

        v is appended to x as one more row, so that W v and sigma's part of the weight's gradient need no
        pass over the weight of their own.
        """
        rows = torch.cat([x, self.v[None].to(x.dtype)])
        y, wv = torch.split(F.linear(rows, self.weight.to(x.dtype)), [len(x), 1])
        scale = self.strength(wv.to(self.u.dtype).mv(self.u)).reciprocal()
        return y * scale if self.bias is None else y * scale + self.bias


class SpectralConv2d(TrackedConv2d):
    """A convolution divided by its operator norm."""

    def kernel(self) -> Tensor:
        """The weight divided by sigma, whose computation costs as much as one more image."""
        return self.weight / self.strength(self.sigma())


class Spectral(Normalizer):
    """Chosen layers are divided by their largest singular value.

    Args:
        networks: see `Normalizer`.
        layers: see `Normalizer`.
        conv_layers: convolutions of the encoder to normalize, selected like `layers`; see `SpectralConv2d`.
        trunk: whether to normalize the linear layers of these networks' trunks, too.
        minimum_sigma: see `Strength`.
        gradient_through_sigma: see `Strength`; `linear`: only for linear layers, as Gogianu et al. ran it.
        num_iterations: see `Strength`.
    """

    kinds = (nn.Linear, nn.Conv2d)

    def __init__(
        self,
        *,
        networks: Sequence[str] = NETWORKS,
        layers: Layers = "inner",
        conv_layers: Layers = "none",
        trunk: bool = False,
        minimum_sigma: float | None = None,
        gradient_through_sigma: bool | str = True,
        num_iterations: int = 1,
    ) -> None:
        super().__init__(networks, layers)
        if not isinstance(gradient_through_sigma, bool) and gradient_through_sigma != "linear":
            raise validation.InvalidInput(f"{GRADIENT} must be true, false or linear, got {gradient_through_sigma!r}")
        self.strength = checked_strength(minimum_sigma, bool(gradient_through_sigma), num_iterations)
        self.conv_strength = self.strength._replace(gradient_through_sigma=gradient_through_sigma is True)
        self.conv_layers = check_layers("normalizer.conv_layers", conv_layers)
        self.normalizes_trunk = validation.boolean("normalizer.trunk", trunk)

    def _normalize(self, head: nn.Module, chosen: NamedLayers) -> nn.Module:
        linear = functools.partial(SpectralLinear, strength=self.strength, generator=self.generator)
        conv = functools.partial(SpectralConv2d, strength=self.conv_strength, generator=self.generator)
        return track_layers(head, chosen, linear, conv)

    def trunk_(self, network: str, trunk: nn.Module) -> None:
        """See `Normalizer`."""
        if self.normalizes_trunk and network in self.networks:
            self.num_layers += len(layers := layers_of(trunk, nn.Linear))
            self._normalize(trunk, layers)

    def encoder_(self, encoder: nn.Module) -> None:
        """See `Normalizer`."""
        chosen = choose_layers("normalizer.conv_layers", layers_of(encoder, nn.Conv2d), self.conv_layers)
        self.num_layers += len(chosen)
        self._normalize(encoder, chosen)
