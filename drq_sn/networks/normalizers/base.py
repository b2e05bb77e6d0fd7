"""Base of the weight normalizers: layer replacement and optimizer-step hooks.

A normalizer is one class and one YAML file. It replaces or wraps layers of newly initialized networks, and it takes
every step of every optimizer.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drq_sn import validation

Layers = str | Sequence[int]
NamedLayers = list[tuple[str, Any]]
"""Layers with their dotted names, in the order of their use."""
LAYER_CHOICES = ("inner", "hidden", "all", "last", "none")
NETWORKS = ("actor", "critic")


class Normalizer:
    """Base class, without effect: a normalizer overrides the methods for what it changes.

    Args:
        networks: networks whose heads are normalized: `actor`, `critic`, or both. A Q network is a critic.
        layers: layers of a head to normalize: `inner` (all but the first and the last: Bjorck 5.1), `hidden` (all but
            the last), `all`, `last`, `none`, or Python-style indices such as `[-2]` (Gogianu et al. 2021). Linear
            layers count, and the convolutions of a Q network with them.

    Attributes:
        compilable: whether torch.compile gives the results of eager updates.
        kinds: classes of layers that it can normalize.
        num_layers: layers normalized so far.
    """

    compilable = True
    kinds: tuple[type[nn.Module], ...] = (nn.Linear,)

    def __init__(self, networks: Sequence[str] = NETWORKS, layers: Layers = "inner") -> None:
        if isinstance(networks, str) or not isinstance(networks, Sequence) or not networks:
            raise validation.InvalidInput(
                f"normalizer.networks must be a list of actor, critic or both, got {networks!r}"
            )
        self.networks = tuple(validation.choice("normalizer.networks", name, NETWORKS) for name in networks)
        self.layers = check_layers("normalizer.layers", layers)
        self.num_layers = 0
        # a separate generator: with and without normalization, a seed gives the same initial weights
        self.generator = torch.Generator().manual_seed(torch.initial_seed())

    def head(self, network: str, head: nn.Module) -> nn.Module:
        """Normalize an initialized head of `network` (`actor` or `critic`) and return it; may work in place."""
        if network not in self.networks:
            return head
        chosen = choose_layers("normalizer.layers", layers_of(head, nn.Linear, nn.Conv2d), self.layers)
        for name, layer in chosen:
            if not isinstance(layer, self.kinds):
                raise validation.InvalidInput(
                    f"normalizer.layers must be linear layers for {type(self).__name__}, got {name}, a convolution"
                )
        self.num_layers += len(chosen)
        return self._normalize(head, chosen)

    @property
    def is_idle(self) -> bool:
        """Whether it normalizes layers, but was given none."""
        return type(self)._normalize is not Normalizer._normalize and not self.num_layers

    def _normalize(self, head: nn.Module, chosen: NamedLayers) -> nn.Module:
        """Return `head` with its `chosen` layers normalized."""
        del chosen
        return head

    def trunk_(self, network: str, trunk: nn.Module) -> None:
        """Normalize the layers of `network`'s initialized trunk, in place."""

    def encoder_(self, encoder: nn.Module) -> None:
        """Normalize the layers of an initialized encoder, which has `obs_shape`, in place."""

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained: Sequence[nn.Module]) -> None:
        """Take one optimizer step on `network`, whose parameters have their gradients.

        Args:
            optimizer: the optimizer of `network`.
            network: the network that is updated.
            trained: all networks trained by the same loss, `network` among them.
        """
        del network, trained
        optimizer.step()


class NormalizedLayer(nn.Module, abc.ABC):
    """Base class of layers with buffers that depend on their weight."""

    weight: Tensor

    @abc.abstractmethod
    def fit_buffers_(self) -> None:
        """Compute the buffers anew, after another weight was copied into the layer."""


class Unnormalized(Normalizer):
    """No normalization."""

    def __init__(self) -> None:
        super().__init__(layers="none")


def replace_layers(module: nn.Module, chosen: NamedLayers, make: Callable[[Any], nn.Module]) -> nn.Module:
    """Replace the `chosen` layers of `module` by `make(layer)`, in place, and return `module`."""
    for name, layer in chosen:
        module.set_submodule(name, make(layer))
    return module


def layers_of(module: nn.Module, *kinds: type[nn.Module]) -> NamedLayers:
    """All layers of one of the classes `kinds` inside `module`."""
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, kinds)]


def conv_input_sizes(network: nn.Module, obs_shape: tuple[int, int, int]) -> dict[nn.Module, tuple[int, int]]:
    """(H, W) of the input of every convolution of `network`, which takes observations (B, C, H, W)."""
    sizes: dict[nn.Module, tuple[int, int]] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: sizes.update({layer: tuple(inputs[0].shape[2:])}))
        for _, layer in layers_of(network, nn.Conv2d)
    ]
    with torch.no_grad():
        network(torch.zeros(1, *obs_shape, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return sizes


def chosen_input_sizes(head: nn.Module, chosen: NamedLayers) -> dict[nn.Module, tuple[int, int]]:
    """`conv_input_sizes` of a head with convolutions among its `chosen` layers, which has `obs_shape`; else empty."""
    has_convs = any(isinstance(layer, nn.Conv2d) for _, layer in chosen)
    return conv_input_sizes(head, head.obs_shape) if has_convs else {}  # type: ignore[arg-type]


def check_layers(option: str, layers: Any) -> Layers:
    """Return `layers` if it is one of `LAYER_CHOICES` or a list of indices, else raise `InvalidInput`."""
    if isinstance(layers, str):
        return validation.choice(option, layers, LAYER_CHOICES)
    if not isinstance(layers, Sequence) or not all(type(index) is int for index in layers):  # true is an int too
        raise validation.InvalidInput(
            f"{option} must be {', '.join(LAYER_CHOICES)} or a list of indices, got {layers!r}"
        )
    return layers


def choose_layers(option: str, named: NamedLayers, layers: Layers) -> NamedLayers:
    """The members of `named` that `layers` selects, each once and in order."""
    if isinstance(layers, str):
        return {"inner": named[1:-1], "hidden": named[:-1], "all": named, "last": named[-1:], "none": []}[layers]
    for index in layers:
        if not -len(named) <= index < len(named):
            raise validation.InvalidInput(f"{option} must be indices of {len(named)} layers, got {list(layers)}")
    return [named[i] for i in sorted({index % len(named) for index in layers})]
