"""Heads: what turns features into Q values or action parameters.

A head is built as `Head(in_dim, out_dim)` (the rest is configuration) and maps (B, in_dim) to
(B, out_dim). Its `nn.Linear` layers must be registered in the order in which the input meets
them: normalisers choose layers by that order.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from drq_sn import checks


class MLPHead(nn.Module):
    """Linear and ReLU `num_hidden_layers` times, then Linear.

    `mlp2` and `mlp4` of Bjorck et al. (2021) are 2 and 4 hidden layers of width 1024.
    """

    def __init__(self, in_dim: int, out_dim: int, width: int = 1024, num_hidden_layers: int = 2) -> None:
        super().__init__()
        checks.integer("head.width", width)
        checks.integer("head.num_hidden_layers", num_hidden_layers)
        widths = [in_dim, *[width] * num_hidden_layers, out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, out_dim)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = torch.relu(layer(x))
        return last(x)


class ResidualBlock(nn.Module):
    """x + W2 relu(W1 LayerNorm(x)), the feed-forward part of a pre-LN transformer block (Bjorck 3.2)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        return x + self.contract(torch.relu(self.expand(self.norm(x))))


class ModernHead(nn.Module):
    """Linear and ReLU, then residual blocks, then Linear; no final LayerNorm.

    `modern2` has one block in each head, `modern4` three in each Q head and one in the actor: the
    reading of Bjorck 3.2 that reproduces the acting memory of their Table 3.
    """

    def __init__(self, in_dim: int, out_dim: int, width: int = 1024, num_blocks: int = 1, expansion: int = 2) -> None:
        super().__init__()
        checks.integer("head.width", width)
        checks.integer("head.num_blocks", num_blocks, minimum=0)
        checks.integer("head.expansion", expansion)
        self.first = nn.Linear(in_dim, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, expansion) for _ in range(num_blocks))
        self.last = nn.Linear(width, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, out_dim)."""
        x = torch.relu(self.first(x))
        for block in self.blocks:
            x = block(x)
        return self.last(x)
