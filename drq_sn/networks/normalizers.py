"""Normalisers: what is done to the layers of networks, and around their optimisers' steps.

A normaliser is one class and one YAML file. It is given freshly initialised parts and returns them,
with some layers replaced or wrapped, and it takes every step of every optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn import checks
from drq_sn.networks.spectral import SpectralConv2d, SpectralLinear, Strength

Layers = str | Sequence[int]
Found = list[tuple[str, Any]]
"""Layers with their dotted names, in the order in which the input meets them."""
LAYER_CHOICES = ("inner", "hidden", "all", "last", "none")
NETWORKS = ("actor", "critic")


class Normalizer:
    """Changes nothing: the base of all normalisers, which override what they change.

    Args:
        networks: whose heads are normalised: `actor`, `critic`, or both.
        layers: which linear layers of a head: `inner` (all but the first and the last: Bjorck 5.1), `hidden`
            (all but the last), `all`, `last`, `none`, or Python-style indices such as `[-2]` (Gogianu et al. 2021).
    """

    def __init__(self, networks: Sequence[str] = NETWORKS, layers: Layers = "inner") -> None:
        if isinstance(networks, str) or not isinstance(networks, Sequence):
            raise checks.InvalidInput(f"normalizer.networks={networks!r}: accepted is a list of {' and '.join(NETWORKS)}")
        self.networks = tuple(checks.choice("normalizer.networks", name, NETWORKS) for name in networks)
        self.layers = _checked_layers("normalizer.layers", layers)
        # its own random numbers: agents of one seed start from the same weights, normalized or not
        self.generator = torch.Generator().manual_seed(torch.initial_seed())

    def head(self, network: str, head: nn.Module) -> nn.Module:
        """Normalise an initialised head of `network` (`actor` or `critic`), perhaps in place, and return it."""
        if network not in self.networks:
            return head
        return self._normalized(head, _choose("normalizer.layers", _layers_of(head, nn.Linear), self.layers))

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        """`head` with its `chosen` layers normalised."""
        return head

    def trunk_(self, network: str, trunk: nn.Module) -> None:
        """Normalise the layers of `network`'s initialised trunk, in place."""

    def encoder_(self, encoder: nn.Module, obs_shape: tuple[int, int, int]) -> None:
        """Normalise the layers of an initialised encoder of observations (C, H, W), in place."""

    def step_(self, optimizer: torch.optim.Optimizer, network: nn.Module, trained_through: nn.Module) -> None:
        """Take one step of a network's optimiser.

        Args:
            optimizer: whose step it is; gradients are in place.
            network: whose parameters it moves.
            trained_through: the network whose heads the gradient came through: itself, or the critic for the encoder.
        """
        optimizer.step()


class Unnormalized(Normalizer):
    """Networks as they are."""

    def __init__(self) -> None:
        super().__init__()


class Spectral(Normalizer):
    """Spectral normalisation: chosen layers divided by their largest singular value (Miyato et al. 2018).

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
        self.conv_layers = _checked_layers("normalizer.conv_layers", conv_layers)
        self.normalizes_trunk = checks.boolean("normalizer.trunk", trunk)

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        return replaced(head, chosen, lambda layer: SpectralLinear(layer, self.strength, self.generator))

    def trunk_(self, network: str, trunk: nn.Module) -> None:
        """See `Normalizer`."""
        if self.normalizes_trunk and network in self.networks:
            self._normalized(trunk, _layers_of(trunk, nn.Linear))

    def encoder_(self, encoder: nn.Module, obs_shape: tuple[int, int, int]) -> None:
        """See `Normalizer`."""
        chosen = _choose("normalizer.conv_layers", _layers_of(encoder, nn.Conv2d), self.conv_layers)
        sizes = _input_sizes(encoder, obs_shape) if chosen else {}
        replaced(encoder, chosen, lambda layer: SpectralConv2d(layer, sizes[layer], self.strength, self.generator))


class WeightNormLinear(nn.Linear):
    """y = g (V / ||V||) x + b, row by row: length and direction of each unit's weights apart (Salimans & Kingma 2016).

    Attributes:
        weight: (out, in) V, whose rows' lengths do not matter.
        gain: (out,) g, a parameter; at the start the rows' lengths, so that nothing changes.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")  # draws nothing
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
    """Weight normalisation, which bounds no norm: its gains are learned."""

    def _normalized(self, head: nn.Module, chosen: Found) -> nn.Module:
        return replaced(head, chosen, WeightNormLinear)


def replaced(module: nn.Module, chosen: Found, make: Callable[[Any], nn.Module]) -> nn.Module:
    """`module` with its `chosen` layers exchanged for what `make` makes of them, in place."""
    for name, layer in chosen:
        module.set_submodule(name, make(layer))
    return module


def _layers_of(module: nn.Module, kind: type[nn.Module]) -> Found:
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, kind)]


def _input_sizes(encoder: nn.Module, obs_shape: tuple[int, int, int]) -> dict[nn.Module, tuple[int, int]]:
    """(H, W) of what every convolution of `encoder` is applied to."""
    sizes: dict[nn.Module, tuple[int, int]] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: sizes.update({layer: tuple(inputs[0].shape[2:])}))
        for _, layer in _layers_of(encoder, nn.Conv2d)
    ]
    with torch.no_grad():
        encoder(torch.zeros(1, *obs_shape))
    for hook in hooks:
        hook.remove()
    return sizes


def checked_strength(minimum_sigma: float | None, gradient_through_sigma: bool, num_iterations: int) -> Strength:
    """A `Strength` of options that a user may have set."""
    return Strength(
        None if minimum_sigma is None else checks.real("normalizer.minimum_sigma", minimum_sigma, 0, open_low=True),
        checks.boolean("normalizer.gradient_through_sigma", gradient_through_sigma),
        checks.integer("normalizer.num_iterations", num_iterations),
    )


def _checked_layers(option: str, layers: Any) -> Layers:
    if isinstance(layers, str):
        return checks.choice(option, layers, LAYER_CHOICES)
    if not isinstance(layers, Sequence) or not all(type(index) is int for index in layers):  # true is an int too
        raise checks.InvalidInput(f"{option}={layers!r}: accepted is {', '.join(LAYER_CHOICES)} or a list of indices")
    return layers


def _choose(option: str, found: Found, layers: Layers) -> Found:
    """The members of `found` that `layers` names, each once and in order."""
    if isinstance(layers, str):
        return {"inner": found[1:-1], "hidden": found[:-1], "all": found, "last": found[-1:], "none": []}[layers]
    for index in layers:
        if not -len(found) <= index < len(found):
            raise checks.InvalidInput(f"{option}={list(layers)}: there are {len(found)} such layers, so {index} is none of them")
    return [found[i] for i in sorted({index % len(found) for index in layers})]
