"""Encoder and trunk: the convolutions shared by actor and critic, and the bottleneck of each network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.networks.initializers import orthogonal_init_

KERNEL = 3
STRIDES = (2, 1, 1, 1)
MOST_FILTERS, LARGEST_TRUNK = 2**14, 2**20  # more than any memory holds; no overflow
MAX_PIXEL = 255.0
MID_PIXEL = 128.0
CPU_MICRO_BATCH = 16  # images whose feature maps fit in a CPU's cache


class Conv2d(nn.Conv2d):
    """A convolution without padding that scales and shifts its input without a pass over it.

    It computes in the type of its input, its parameters keep theirs.
    """

    def kernel(self) -> Tensor:
        """(out, in, k, k), what inputs are convolved with."""
        return self.weight

    def forward(self, x: Tensor, scale: float = 1.0, offset: float = 0.0) -> Tensor:
        """Convolve `scale` x + `offset`, by a change of kernel and bias: (B, in, H, W) -> (B, out, H', W')."""
        kernel, bias = self.kernel(), self.bias
        if offset != 0.0:
            shift = offset * kernel.sum((1, 2, 3))
            bias = shift if bias is None else bias + shift
        kernel = kernel if scale == 1.0 else scale * kernel
        return F.conv2d(x, kernel.to(x.dtype), None if bias is None else bias.to(x.dtype), self.stride)


class ConvEncoder(nn.Module):
    """Four 3x3 convolutions (strides 2, 1, 1, 1), ReLU after each, flattened.

    84x84 frames give maps of 41, 39, 37 and 35 and, with 32 filters, 39 200 features.

    Args:
        obs_shape: (C, H, W) of the stacked frames; H = W >= 17, else `InvalidInput`; an attribute too.
        num_filters: channels of every convolution.
        pixel_offset: added after scaling to [0, 1]: 0 for DrQ, -0.5 for DrQ-v2.
        dtype: type of feature maps and features; None for that of the parameters.
    """

    def __init__(
        self,
        obs_shape: tuple[int, int, int],
        num_filters: int = 32,
        pixel_offset: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        validation.integer("agent.num_filters", num_filters, maximum=MOST_FILTERS)
        self.obs_shape = obs_shape
        channels, size, width = obs_shape
        validation.integer("env.image_size", size, minimum=17)
        if width != size:
            raise validation.InvalidInput(f"observations must be square for this agent, got {size} x {width}")
        self.convs = nn.ModuleList()
        for stride in STRIDES:
            self.convs.append(Conv2d(channels, num_filters, KERNEL, stride))
            channels, size = num_filters, (size - KERNEL) // stride + 1
        self.pixel_offset = validation.real("agent.pixel_offset", pixel_offset, -1, 1)
        self.feature_dim = num_filters * size * size
        self.dtype = dtype
        orthogonal_init_(self)
        self.convs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def forward(self, obs: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in 0..255 -> features (B, feature_dim), all >= 0."""
        if obs.device.type != "cpu" or len(obs) <= CPU_MICRO_BATCH:
            return self._encode(obs)
        return torch.cat([self._encode(images) for images in torch.split(obs, CPU_MICRO_BATCH)])

    def _encode(self, obs: Tensor) -> Tensor:
        first, *others = self.convs
        x, offset = obs.to(self.dtype or next(self.parameters()).dtype), self.pixel_offset
        if self.dtype is torch.bfloat16:  # centered pixels, which it represents exactly, lose less to rounding
            x, offset = x - MID_PIXEL, offset + MID_PIXEL / MAX_PIXEL
        x = first(x, scale=1 / MAX_PIXEL, offset=offset)
        for conv in others:
            x = conv(torch.relu_(x))
        return torch.relu_(x.flatten(1))  # after the copy into another order, for a fast backward pass


class Linear(nn.Linear):
    """A linear layer that computes in the type of its input; its parameters keep theirs."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Trunk(nn.Module):
    """Linear, LayerNorm, tanh: (B, in_dim) -> (B, out_dim) in (-1, 1). One per network.

    The linear layer computes in the type of the features, the rest in that of the parameters.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        validation.integer("agent.trunk_dim", out_dim, maximum=LARGEST_TRUNK)
        self.linear = Linear(in_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Compress encoder features (B, in_dim), of any type, to (B, out_dim)."""
        return torch.tanh(self.norm(self.linear(features).to(self.norm.weight.dtype)))
