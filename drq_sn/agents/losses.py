"""Losses and targets: one pure function per equation, with checked shapes because broadcasting hides mistakes.

B is the batch size; Q values are (2, B), one row per Q head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _require_shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected {shape}")


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """Y = R_n + D_n * V(s_{t+n}): three (B,) -> (B,)."""
    _require_shape("discount", discount, tuple(reward.shape))
    _require_shape("next_value", next_value, tuple(reward.shape))
    return reward + discount * next_value


def clipped_double_q(q: Tensor) -> Tensor:
    """min(Q1, Q2) (Fujimoto et al. 2018): (2, B) -> (B,)."""
    _require_shape("q", q, (2, q.shape[-1]))
    return q.amin(0)


def soft_value(q: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
    """V = min(Q1, Q2) - alpha log pi (Haarnoja et al. 2018, eq. 3): (2, B), (B,), 0-d -> (B,)."""
    _require_shape("log_prob", log_prob, (q.shape[-1],))
    _require_shape("temperature", temperature, ())
    return clipped_double_q(q) - temperature * log_prob


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """MSE(Q1, y) + MSE(Q2, y): (2, B) and (B,) -> 0-d."""
    _require_shape("q", q, (2, q.shape[-1]))
    _require_shape("target", target, (q.shape[-1],))
    return (q - target).square().mean(-1).sum()


def deterministic_actor_loss(q: Tensor) -> Tensor:
    """-mean min(Q1, Q2) (DDPG with a double critic): (2, B) -> 0-d."""
    return -clipped_double_q(q).mean()


def soft_actor_loss(q: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
    """mean(alpha log pi - min(Q1, Q2)) (Haarnoja et al. 2018, eq. 7): (2, B), (B,), 0-d -> 0-d."""
    return -soft_value(q, log_prob, temperature).mean()


def temperature_loss(temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """mean(alpha (-log pi - H*)), gradient to alpha alone: 0-d and (B,) -> 0-d."""
    _require_shape("temperature", temperature, ())
    return (temperature * (-log_prob - target_entropy).detach()).mean()


def value_loss(q: Tensor, target: Tensor, huber: bool) -> Tensor:
    """Mean squared error, or mean Huber loss with threshold 1: two (B,) -> 0-d (Mnih et al. 2015)."""
    _require_shape("target", target, tuple(q.shape))
    return F.huber_loss(q, target) if huber else (q - target).square().mean()


def project_distribution(probabilities: Tensor, reward: Tensor, discount: Tensor, support: Tensor) -> Tensor:
    """Distribution of R_n + D_n Z on the atoms of Z (Bellemare et al. 2017, eq. 7).

    m_j = sum_i p_i clip(1 - |clip(R_n + D_n z_i) - z_j| / delta_z, 0, 1).

    Args:
        probabilities: (B, N), those of Z.
        reward: (B,), R_n.
        discount: (B,), D_n.
        support: (N,), equidistant atoms z.

    Returns:
        (B, N).
    """
    num_atoms = len(support)
    _require_shape("probabilities", probabilities, (len(reward), num_atoms))
    _require_shape("discount", discount, tuple(reward.shape))
    moved = (reward[:, None] + discount[:, None] * support).clamp(support[0], support[-1])
    distances = (moved[:, :, None] - support).abs() / (support[1] - support[0])
    return (probabilities[:, :, None] * (1 - distances).clamp(0, 1)).sum(1)


def distribution_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, mean over the batch: two (B, N) -> 0-d."""
    _require_shape("target", target, tuple(logits.shape))
    return -(target * torch.log_softmax(logits, -1)).sum(-1).mean()
