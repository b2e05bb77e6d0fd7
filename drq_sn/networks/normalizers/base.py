"""Base of the weight normalizers: layer replacement and optimizer-step hooks.

A normalizer is one class and one YAML file. It is given freshly initialized parts and returns them with some layers
replaced or wrapped, and it takes every step of every optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from drq_sn import validation

Layers = str | Sequence[int]
Found = list[tuple[str, Any]]
"""Layers with their dotted names, in the order in which the input meets them."""
LAYER_CHOICES = ("inner", "hidden", "all", "last", "none")
NETWORKS = ("actor", "critic")


class Normalizer:
    """Changes nothing: the base of all normalizers, which override what they change.

    Args:
        networks: whose heads are normalized: `actor`, `critic`, or both.
        layers: which linear layers of a head: `inner` (all but the first and the last: Bjorck 5.1), `hidden`
            (all but the last), `all`, `last`, `none`, or Python-style indices such as `[-2]` (Gogianu et al. 2021).
    """

    def __init__(self, networks: Sequence[str] = NETWORKS, layers: Layers = "inner") -> None:
        if isinstance(networks, str) or not isinstance(networks, Sequence):
            raise validation.InvalidInput(
                f"normalizer.networks must be a list of {' and '.join(NETWORKS)}, got {networks!r}"
            )
        self.networks = tuple(validation.choice("normalizer.networks", name, NETWORKS) for name in networks)
        self.layers = check_layers("normalizer.layers", layers)
        # its own random numbers: agents of one seed start from the same weights, normalized or not
        self.generator = torch.Generator().manual_seed(torch.initial_seed())

    def head(self, network: str, head: nn.Module) -> nn.Module:
        """Normalize an initialized head of `network` (`actor` or `critic`), perhaps in place, and return it."""
        if network not in self.networks:
            return head
        return self._normalized(head, choose_layers("normalizer.layers", layers_of(head, nn.Linear), self.layers))

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        """`head` with its `chosen` layers normalized."""
        return head

    def trunk_(self, network: str, trunk: nn.Module) -> None:
        """Normalize the layers of `network`'s initialized trunk, in place."""

    def encoder_(self, encoder: nn.Module, obs_shape: tuple[int, int, int]) -> None:
        """Normalize the layers of an initialized encoder of observations (C, H, W), in place."""

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained_through: nn.Module) -> None:
        """Take one step of a network's optimizer.

        Args:
            optimizer: whose step it is; gradients are in place.
            network: whose parameters it moves.
            trained_through: the network whose heads the gradient came through: itself, or the critic for the encoder.
        """
        optimizer.step()


class Unnormalized(Normalizer):
    """No normalization."""

    def __init__(self) -> None:
        super().__init__()


def replaced(module: nn.Module, chosen: Found, make: Callable[[Any], nn.Module]) -> nn.Module:
    """`module` with its `chosen` layers exchanged for what `make` makes of them, in place."""
    for name, layer in chosen:
        module.set_submodule(name, make(layer))
    return module


def layers_of(module: nn.Module, kind: type[nn.Module]) -> Found:
    """Every layer of class `kind` inside `module`."""
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, kind)]


def check_layers(option: str, layers: Any) -> Layers:
    """`layers` if it is one of `LAYER_CHOICES` or a list of indices, else `InvalidInput` that names `option`."""
    if isinstance(layers, str):
        return validation.choice(option, layers, LAYER_CHOICES)
    if not isinstance(layers, Sequence) or not all(type(index) is int for index in layers):  # true is an int too
        raise validation.InvalidInput(
            f"{option} must be {', '.join(LAYER_CHOICES)} or a list of indices, got {layers!r}"
        )
    return layers


def choose_layers(option: str, found: Found, layers: Layers) -> Found:
    """The members of `found` that `layers` names, each once and in order."""
    if isinstance(layers, str):
        return {"inner": found[1:-1], "hidden": found[:-1], "all": found, "last": found[-1:], "none": []}[layers]
    for index in layers:
        if not -len(found) <= index < len(found):
            raise validation.InvalidInput(f"{option} must be indices of {len(found)} layers, got {list(layers)}")
    return [found[i] for i in sorted({index % len(found) for index in layers})]
