"""Weight normalization (Salimans and Kingma 2016), a negative control: it bounds no norm."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn.networks.normalizers.base import Found, Normalizer, replaced


class WeightNormLinear(nn.Linear):
    """y = g (V / ||V||) x + b, row by row: length and direction of each unit's weights apart (Salimans & Kingma 2016).

    Attributes:
        weight: (out, in) V, whose rows' lengths do not matter.
        gain: (out,) g, a parameter; at the start the rows' lengths, so that nothing changes.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(
            linear.in_features, linear.out_features, linear.bias is not None, device="meta"
        )  # draws nothing
        self.weight, self.bias = linear.weight, linear.bias
        self.gain = nn.Parameter(linear.weight.detach().norm(dim=1))

    @property
    def composed_weight(self) -> Tensor:
        """(out, in), what inputs are multiplied by."""
        return self.weight * (self.gain / self.weight.norm(dim=1))[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return F.linear(x, self.composed_weight, self.bias)


class WeightNorm(Normalizer):
    """Weight normalization, which bounds no norm: its gains are learned."""

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        return replaced(head, chosen, WeightNormLinear)
