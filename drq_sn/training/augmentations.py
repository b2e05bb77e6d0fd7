"""Image augmentations: (B, C, H, W) in 0..255 -> the same shape and range.

The random shift is implemented here, in uint8, because it runs in every update; the augmentations that
the DrQ paper compares it with (Kostrikov et al. 2020, appendix) use kornia.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drq_sn import validation

RGB = 3
MAX_ELEMENTS = 2**31 - 1  # of a tensor that CUDA selects from with 32-bit arithmetic; batches of 512 have more starts


class Identity:
    """No augmentation."""

    capturable = True

    def __call__(self, obs: Tensor) -> Tensor:
        """Return `obs` itself."""
        return obs


def crop_shifted(obs: Tensor, offsets: Tensor, pad: int) -> Tensor:
    """Pad by `pad` with replicated edges, then crop to the original size at one offset per image.

    Args:
        obs: (B, C, H, W), any dtype.
        offsets: (B, 2) int64, row and column of the crop in the padded image, each in 0..2 pad.
        pad: pixels of padding on every side.

    Returns:
        (B, C, H, W) of the same dtype, in channels-last memory format, the fastest for convolutions.
    """
    batch, channels, height, width = obs.shape
    images = obs.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    edges = images[:, :, :1].expand(-1, -1, pad, -1), images[:, :, -1:].expand(-1, -1, pad, -1)
    wide = torch.cat([edges[0], images, edges[1]], dim=2)
    # a row of a crop is contiguous in memory, so whole rows are copied by their start positions
    part = max(1, MAX_ELEMENTS // (height * wide.shape[2] * width * channels))  # images per selection
    rows = (torch.arange(height, device=obs.device) + offsets[:, :1] - pad).clamp_(0, height - 1)
    rows += torch.arange(batch, device=obs.device)[:, None] % part * height
    starts = rows * wide.shape[2] + offsets[:, 1:]
    crops = torch.empty_like(images)
    for crop, start, image in zip(*(torch.split(x, part) for x in (crops, starts, wide)), strict=True):
        num_starts = image[..., 0].numel() - width + 1
        every_start = image.as_strided((num_starts, width * channels), (channels, 1))
        torch.index_select(every_start, 0, start.flatten(), out=crop.view(-1, width * channels))
    return crops.permute(0, 3, 1, 2)


class RandomShift:
    """An independent integer shift of up to `pad` pixels per image (DrQ and DrQ-v2)."""

    capturable = True

    def __init__(self, pad: int = 4) -> None:
        self.pad = validation.integer("augmentation.pad", pad)

    def __call__(self, obs: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> shifted images of the same shape and dtype."""
        offsets = torch.randint(0, 2 * self.pad + 1, (obs.shape[0], 2), device=obs.device)
        return crop_shifted(obs, offsets, self.pad)


class Intensity(nn.Module):
    """Scale each image by 1 + scale * clip(normal noise, -2, 2) (DrQ paper, appendix)."""

    def __init__(self, scale: float = 0.05) -> None:
        super().__init__()
        self.scale = validation.real("augmentation.transform.scale", scale, 0)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> the same."""
        noise = torch.randn(images.shape[0], 1, 1, 1, device=images.device, dtype=images.dtype)
        return (images * (1.0 + self.scale * noise.clamp(-2.0, 2.0))).clamp(0.0, 1.0)


class WholeStack:
    """Apply an image transform once to each stack of frames, in float [0, 1].

    Args:
        transform: module on (B, C, H, W) floats in [0, 1] that draws its own random parameters.
    """

    capturable = False  # kornia draws random numbers on the host

    def __init__(self, transform: nn.Module) -> None:
        self.transform = transform

    def __call__(self, obs: Tensor) -> Tensor:
        """(B, C, H, W) in 0..255 -> float in 0..255."""
        transformed: Tensor = self.transform(obs / 255.0)
        return transformed * 255.0


class SameOnFrames:
    """Apply an RGB transform with the same random parameters to every frame of a stack."""

    capturable = False  # kornia draws random numbers on the host

    def __init__(self, transform: nn.Module) -> None:
        from kornia.augmentation import VideoSequential  # here, because its import takes longer than torch's

        self.transform = VideoSequential(transform, data_format="BTCHW", same_on_frame=True)

    def __call__(self, obs: Tensor) -> Tensor:
        """(B, 3 T, H, W) in 0..255 -> float in 0..255."""
        batch, channels, height, width = obs.shape
        frames = (obs / 255.0).reshape(batch, channels // RGB, RGB, height, width)
        transformed: Tensor = self.transform(frames)
        return transformed.reshape(obs.shape) * 255.0
