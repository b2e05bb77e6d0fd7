"""Weight initialization of all networks."""

from __future__ import annotations

from torch import nn


def orthogonal_init_(module: nn.Module) -> None:
    """Initialize every layer inside `module`, in place, before a normalizer replaces layers.

    Convolutions: orthogonal with ReLU gain; linear layers: orthogonal with gain 1; biases 0, as in
    the published implementations of both agents.
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


def xavier_init_(module: nn.Module) -> None:
    """Initialize every layer inside `module`, in place: Xavier-uniform weights, biases 0 (Gogianu et al. 2021)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
