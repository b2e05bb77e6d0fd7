"""Losses and targets: one pure function per equation, with checked shapes because broadcasting hides mistakes.

B is the batch size; Q values are (2, B), one row per Q head.
"""

from __future__ import annotations

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
