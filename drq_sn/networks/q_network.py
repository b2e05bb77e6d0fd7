"""Q networks: convolutions and linear layers from observations to one or several outputs per action."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.networks.initializers import xavier_init_

KERNEL = 3
MOST_CHANNELS, LARGEST_HIDDEN = 2**14, 2**20  # far more than any memory holds, and sizes do not overflow


class QNetwork(nn.Module):
    """3x3 convolutions of stride 1, each with ReLU; then Linear, ReLU, Linear (Gogianu et al. 2021, section 5.1).

    Normalizers count its layers in the order of their use, convolutions and linear layers together: with three
    convolutions, -1 is the output layer, -2 the hidden linear one, and -3, -4 and -5 are convolutions.

    Args:
        obs_shape: (C, H, W) of an observation; an attribute too, which normalizers of convolutions read.
        num_outputs: outputs for all actions together.
        channels: output channels of each convolution.
        hidden: units of the hidden linear layer.

    Raises:
        InvalidInput: if the observation is too small for so many convolutions.
    """

    def __init__(self, obs_shape: tuple[int, int, int], num_outputs: int, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        in_channels, height, width = self.obs_shape = obs_shape
        largest = (min(height, width) - 1) // (KERNEL - 1)
        option = "agent.q_network.channels"
        if isinstance(channels, str) or not isinstance(channels, Sequence) or not 1 <= len(channels) <= largest:
            raise validation.InvalidInput(f"{option} must be a list of 1 to {largest} numbers, got {channels!r}")
        sizes = [in_channels, *(validation.integer(option, number, maximum=MOST_CHANNELS) for number in channels)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, KERNEL) for a, b in itertools.pairwise(sizes))
        lost = (KERNEL - 1) * len(channels)
        features = sizes[-1] * (height - lost) * (width - lost)
        self.hidden = nn.Linear(features, validation.integer("agent.q_network.hidden", hidden, maximum=LARGEST_HIDDEN))
        self.last = nn.Linear(hidden, num_outputs)
        xavier_init_(self)
        self.convs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def forward(self, obs: Tensor) -> Tensor:
        """(B, C, H, W), of any type and not scaled -> (B, num_outputs)."""
        x = obs.to(next(self.parameters()).dtype, memory_format=torch.channels_last)
        for conv in self.convs:
            x = torch.relu(conv(x))
        output: Tensor = self.last(torch.relu(self.hidden(x.flatten(1))))
        return output
