"""Weight normalization (Salimans and Kingma 2016), a negative control that bounds no norm."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn.networks.normalizers.base import NamedLayers, Normalizer, replace_layers


class WeightNormLinear(nn.Linear):
    """y = g (V / ||V||) x + b with row-wise norms: magnitude and direction of each unit's weights are separate.

    Attributes:
        weight: (out, in), V; the norms of its rows have no effect.
        gain: (out,), g; initially the norms of the rows, so that the function is unchanged.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.gain = nn.Parameter(linear.weight.detach().norm(dim=1))

    @property
    def composed_weight(self) -> Tensor:
        """(out, in), the weight that inputs are multiplied by."""
        scale: Tensor = self.gain / self.weight.norm(dim=1)
        return self.weight * scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return F.linear(x, self.composed_weight, self.bias)


class WeightNorm(Normalizer):
    """Weight normalization; its learned gains leave the norm unbounded."""

    def _normalize(self, head: nn.Module, chosen: NamedLayers) -> nn.Module:
        return replace_layers(head, chosen, WeightNormLinear)
