"""Heads: networks that map features to Q values or action parameters.

A head is built as `Head(in_dim, out_dim, **options)` and maps (B, in_dim) to (B, out_dim). Its
`nn.Linear` layers must be registered in the order of their use, by which normalizers choose layers.

Only the network is taken from each paper; initialization, optimizer and losses are the agent's.
"""

from __future__ import annotations

import abc
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn import validation

LARGEST_WIDTH, LARGEST_EXPANSION, MOST_LAYERS = 2**20, 1000, 1000  # more than any memory holds; no overflow


class Head(nn.Module, abc.ABC):
    """A linear output layer on `features`, with or without penultimate normalization.

    Args:
        width: size of the features.
        pnorm: divide the features by their Euclidean norm, so that the magnitude of the output depends
            on the last layer only (Bjorck et al. 2021b, arXiv 2110.11222).

    Attributes:
        last: the linear output layer.
    """

    last: nn.Module

    def __init__(self, width: int, pnorm: bool) -> None:
        super().__init__()
        validation.integer("head.width", width, maximum=LARGEST_WIDTH)
        self.pnorm = validation.boolean("head.pnorm", pnorm)

    @abc.abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, width), the input of the last layer before `pnorm`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, out_dim)."""
        features = self.features(x)
        output: Tensor = self.last(F.normalize(features, dim=-1) if self.pnorm else features)
        return output


class NoHead:
    """Takes the place of a head where an agent's networks have none."""


class MLPHead(Head):
    """Linear and ReLU `num_hidden_layers` times, then Linear.

    `mlp2` and `mlp4` of Bjorck et al. (2021) are 2 and 4 hidden layers of width 1024.
    """

    def __init__(
        self, in_dim: int, out_dim: int, width: int = 1024, num_hidden_layers: int = 2, pnorm: bool = False
    ) -> None:
        super().__init__(width, pnorm)
        validation.integer("head.num_hidden_layers", num_hidden_layers, maximum=MOST_LAYERS)
        widths = [in_dim, *[width] * num_hidden_layers, out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    @property
    def last(self) -> nn.Module:  # type: ignore[override]  # saved weights have it in `layers`
        """The output layer, or its replacement by a normalizer."""
        return self.layers[-1]

    def features(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, width)."""
        *hidden, _ = self.layers
        for layer in hidden:
            x = torch.relu(layer(x))
        return x


class D2RLHead(Head):
    """ReLU MLP whose input also enters every hidden layer after the first (Sinha et al. 2020, arXiv 2010.09163).

    The input of the output layer is the last hidden layer only. The paper has 4 hidden layers in each network.
    """

    def __init__(
        self, in_dim: int, out_dim: int, width: int = 1024, num_hidden_layers: int = 4, pnorm: bool = False
    ) -> None:
        super().__init__(width, pnorm)
        validation.integer("head.num_hidden_layers", num_hidden_layers, maximum=MOST_LAYERS)
        self.first = nn.Linear(in_dim, width)
        self.hidden = nn.ModuleList(nn.Linear(width + in_dim, width) for _ in range(num_hidden_layers - 1))
        self.last = nn.Linear(width, out_dim)

    def features(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, width)."""
        features = torch.relu(self.first(x))
        for layer in self.hidden:
            features = torch.relu(layer(torch.cat([features, x], dim=-1)))
        return features


class ResidualBlock(nn.Module):
    """x + W2 relu(W1 LayerNorm(x)), the feed-forward part of a pre-LN transformer block (Bjorck 3.2)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        residual: Tensor = self.contract(torch.relu(self.expand(self.norm(x))))
        return x + residual


def residual_blocks(width: int, num_blocks: int, expansion: int) -> nn.Sequential:
    """`num_blocks` of `ResidualBlock`."""
    validation.integer("head.num_blocks", num_blocks, minimum=0, maximum=MOST_LAYERS)
    validation.integer("head.expansion", expansion, maximum=LARGEST_EXPANSION)
    return nn.Sequential(*(ResidualBlock(width, expansion) for _ in range(num_blocks)))


class ModernHead(Head):
    """Linear and ReLU, then residual blocks, then Linear; no final LayerNorm.

    `modern2` has one block in each head, `modern4` three in each Q head and one in the actor: the
    interpretation of Bjorck 3.2 that reproduces the acting memory of their Table 3.
    """

    def __init__(
        self, in_dim: int, out_dim: int, width: int = 1024, num_blocks: int = 1, expansion: int = 2, pnorm: bool = False
    ) -> None:
        super().__init__(width, pnorm)
        self.first = nn.Linear(in_dim, width)
        self.blocks = residual_blocks(width, num_blocks, expansion)
        self.last = nn.Linear(width, out_dim)

    def features(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, width)."""
        features: Tensor = self.blocks(torch.relu(self.first(x)))
        return features


class SimBaHead(Head):
    """Linear, then residual blocks, then LayerNorm and Linear (Lee et al. 2024, arXiv 2410.09754).

    No ReLU follows the first layer, so that a linear path connects input and output. SimBa's running
    standardization of observations is omitted: a head's input has passed the trunk's LayerNorm.
    """

    def __init__(
        self, in_dim: int, out_dim: int, width: int = 1024, num_blocks: int = 1, expansion: int = 4, pnorm: bool = False
    ) -> None:
        super().__init__(width, pnorm)
        self.first = nn.Linear(in_dim, width)
        self.blocks = residual_blocks(width, num_blocks, expansion)
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, out_dim)

    def features(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, width)."""
        features: Tensor = self.norm(self.blocks(self.first(x)))
        return features


class LinearLayerNorm(nn.Module):
    """LayerNorm(W x + b), bounded however large the weights become (Ba et al. 2016)."""

    def __init__(self, in_dim: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, width)."""
        output: Tensor = self.norm(self.linear(x))
        return output


class LayerNormMLPHead(Head):
    """Linear, LayerNorm and ReLU `num_hidden_layers` times, then Linear, as in RLPD's critics (Ball et al. 2023)."""

    def __init__(
        self, in_dim: int, out_dim: int, width: int = 1024, num_hidden_layers: int = 2, pnorm: bool = False
    ) -> None:
        super().__init__(width, pnorm)
        validation.integer("head.num_hidden_layers", num_hidden_layers, maximum=MOST_LAYERS)
        widths = [in_dim, *[width] * num_hidden_layers]
        self.hidden = nn.ModuleList(LinearLayerNorm(a, b) for a, b in itertools.pairwise(widths))
        self.last = nn.Linear(width, out_dim)

    def features(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, width)."""
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return x


class BroNetBlock(nn.Module):
    """x + LayerNorm(W2 relu(LayerNorm(W1 x))), of one width (Nauman et al. 2024)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = LinearLayerNorm(width, width)
        self.second = LinearLayerNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        residual: Tensor = self.second(torch.relu(self.first(x)))
        return x + residual


class BroNetHead(Head):
    """Linear, LayerNorm and ReLU, then BroNet's blocks, then Linear (Nauman et al. 2024, BRO, arXiv 2405.16158)."""

    def __init__(self, in_dim: int, out_dim: int, width: int = 1024, num_blocks: int = 1, pnorm: bool = False) -> None:
        super().__init__(width, pnorm)
        validation.integer("head.num_blocks", num_blocks, minimum=0, maximum=MOST_LAYERS)
        self.first = LinearLayerNorm(in_dim, width)
        self.blocks = nn.Sequential(*(BroNetBlock(width) for _ in range(num_blocks)))
        self.last = nn.Linear(width, out_dim)

    def features(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, width)."""
        features: Tensor = self.blocks(torch.relu(self.first(x)))
        return features
