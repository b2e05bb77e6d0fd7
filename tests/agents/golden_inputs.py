"""Inputs of the golden updates, by formula: weights, batches, crop offsets and noise.

`golden_updates.json` beside this file holds what the published DrQ and DrQ-v2 implementations
compute from them in float64 (head of width 64, batch of 4).
"""

from __future__ import annotations

import functools

import numpy as np

BATCH_SIZE, ACTION_DIM, CHANNELS, IMAGE_SIZE, TRUNK_DIM, WIDTH, PAD = 4, 3, 9, 84, 50, 64, 4
NUM_FILTERS, FEATURE_DIM = 32, 32 * 35 * 35
GOLDEN_RATIO = (1 + 5**0.5) / 2


def wave(shape: tuple[int, ...], key: int, scale: float) -> np.ndarray:
    """A chirp in [-scale, scale], a different one for each key."""
    i = np.arange(np.prod(shape), dtype=np.float64)
    phase = 0.37 * (key + 1) + GOLDEN_RATIO * i * (1 + 0.1 * key) + 0.001 * (i % 97) ** 2
    return (scale * np.sin(phase)).reshape(shape)


def weight_and_bias(weight_shape: tuple[int, ...], key: int) -> dict[str, np.ndarray]:
    """One layer; the fan-in is everything but the first axis."""
    scale = 1.5 / np.sqrt(np.prod(weight_shape[1:]))
    return {"weight": wave(weight_shape, key, scale), "bias": wave(weight_shape[:1], key + 1, 0.05)}


@functools.cache
def parameters(policy_dim: int) -> dict[str, np.ndarray]:
    """Every online parameter by the names of the golden file; targets start as copies."""
    layers = {}
    for k in range(4):
        layers[f"conv{k + 1}"] = weight_and_bias((NUM_FILTERS, NUM_FILTERS if k else CHANNELS, 3, 3), 2 * k)
    for network, key in (("critic", 20), ("actor", 30)):
        layers[f"{network}_trunk.linear"] = weight_and_bias((TRUNK_DIM, FEATURE_DIM), key)
        scale, shift = wave((TRUNK_DIM,), key + 2, 0.1), wave((TRUNK_DIM,), key + 3, 0.1)
        layers[f"{network}_trunk.norm"] = {"weight": 1 + scale, "bias": shift}
    q_in = TRUNK_DIM + ACTION_DIM
    for head, key, in_dim, out_dim in (("q1", 40, q_in, 1), ("q2", 50, q_in, 1), ("actor", 60, TRUNK_DIM, policy_dim)):
        shapes = ((WIDTH, in_dim), (WIDTH, WIDTH), (out_dim, WIDTH))
        for k, shape in enumerate(shapes):
            layers[f"{head}.{k}"] = weight_and_bias(shape, key + 2 * k)
    return {f"{layer}.{kind}": value for layer, group in layers.items() for kind, value in group.items()}


def batch(update: int) -> dict[str, np.ndarray]:
    """Observations, action, reward, and `alive`: 0 for one sample of the batch, else 1."""
    key = 100 + 10 * update
    shape = (BATCH_SIZE, CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
    obs, next_obs = (
        np.round(127.5 + 127.5 * wave(shape, k, 1.0)).clip(0, 255).astype(np.uint8) for k in (key, key + 1)
    )
    alive = np.ones(BATCH_SIZE)
    alive[update % BATCH_SIZE] = 0.0
    return {
        "obs": obs,
        "next_obs": next_obs,
        "action": wave((BATCH_SIZE, ACTION_DIM), key + 2, 0.95),
        "reward": wave((BATCH_SIZE,), key + 3, 1.0) + 1.0,
        "alive": alive,
    }


def crop_offsets(update: int, view: int) -> np.ndarray:
    """(B, 2) row and column in 0..8. Views: 0 obs, 1 next_obs, 2 obs_aug, 3 next_obs_aug."""
    i = np.arange(BATCH_SIZE)
    rows, columns = 3 * i + 5 * update + 7 * view + 1, 5 * i + 2 * update + 4 * view + 3
    return np.stack([rows, columns], axis=1) % (2 * PAD + 1)


def noise(update: int, draw: int) -> np.ndarray:
    """(B, A). Draws: 0 target action, 1 actor's action, 2 target action of DrQ's second view."""
    return wave((BATCH_SIZE, ACTION_DIM), 500 + 10 * update + draw, 1.2)
