"""The two policies' distributions over actions in [-1, 1], as pure functions of given noise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0
ACTION_LIMIT = 1.0 - 1e-6
SATURATION_LIMIT = 0.99


def normal_log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log N(value; mean, std), summed over the last axis: (B, A) each -> (B,)."""
    z = (value - mean) / std
    return (-0.5 * z.square() - torch.log(std) - 0.5 * math.log(2 * math.pi)).sum(-1)


def bounded_log_std(x: Tensor) -> Tensor:
    """Squash any real `x` into [LOG_STD_MIN, LOG_STD_MAX] through tanh (DrQ's policy)."""
    return LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (torch.tanh(x) + 1.0)


def squashed_normal_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Sample tanh(Normal) by reparameterization (Haarnoja et al. 2018, appendix C).

    Args:
        mean: (B, A) mean before the tanh.
        log_std: (B, A) log standard deviation before the tanh.
        noise: (B, A) standard normal.

    Returns:
        Actions (B, A) in (-1, 1) and their log-probabilities (B,). The tanh correction
        log(1 - tanh(x)^2) is written 2 (log 2 - x - softplus(-2x)), which cannot overflow.
    """
    x = mean + log_std.exp() * noise
    log_prob = (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)  # (x - mean) / std is the noise
    correction = 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))
    return torch.tanh(x), log_prob - correction.sum(-1)


def saturation_metrics(pre_tanh: Tensor) -> dict[str, Tensor]:
    """How saturated the tanh of a policy is, from its pre-activations (B, A).

    Returns:
        Mean and maximum of the pre-activations' absolute values, and the share of action components beyond
        +-`SATURATION_LIMIT`, where 98 % of the gradient is lost; each 0-d.
    """
    size = pre_tanh.detach().abs()
    return {
        "actor_preactivation": size.mean(),
        "actor_preactivation_max": size.max(),
        "actor_saturation": (torch.tanh(size) > SATURATION_LIMIT).to(size.dtype).mean(),
    }


def clamp_straight_through(x: Tensor) -> Tensor:
    """Clamp to +-(1 - 1e-6) in value; the gradient passes as if nothing were clamped."""
    return x + (x.clamp(-ACTION_LIMIT, ACTION_LIMIT) - x).detach()


def clipped_normal_sample(mean: Tensor, std: Tensor, noise: Tensor, noise_clip: float | None) -> Tensor:
    """DrQ-v2's exploration: mean plus (optionally clipped) noise, clamped to the action range.

    Args:
        mean: (B, A) mean in [-1, 1] (after the tanh).
        std: 0-d or (B, A) standard deviation.
        noise: (B, A) standard normal.
        noise_clip: largest absolute value of std * noise; None leaves it unclipped (acting).

    Returns:
        Actions (B, A).
    """
    scaled = std * noise
    if noise_clip is not None:
        scaled = scaled.clamp(-noise_clip, noise_clip)
    return clamp_straight_through(mean + scaled)
