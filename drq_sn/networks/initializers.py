"""The one rule for initial weights."""

from __future__ import annotations

from torch import nn


def orthogonal_init_(module: nn.Module) -> None:
    """Give every layer inside `module` its initial weights, in place.

    Convolutions: orthogonal with ReLU gain; linear layers: orthogonal with gain 1; biases 0
    (both published implementations). Call it before a normalizer takes the layers over.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
        elif isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
