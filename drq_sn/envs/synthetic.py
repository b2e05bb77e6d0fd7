"""A tiny pixel task without a simulator, for tests and trial runs."""

from __future__ import annotations

import dm_env
import numpy as np
from dm_env import specs

EPISODE_FRAMES = 100
SPEED = 0.1


class PointMass(dm_env.Environment):  # type: ignore[misc]  # dm_env has no type hints
    """A bright dot on a dark square; the reward is 1 at the center and 0 at the border.

    Actions (2,) in [-1, 1] move the dot; an episode is 100 frames and ends by time limit.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.RandomState(seed)
        self._position = np.zeros(2)
        self._frame = EPISODE_FRAMES

    def reset(self) -> dm_env.TimeStep:
        """Start with the dot at a random position."""
        self._position = self.random.uniform(-1.0, 1.0, 2)
        self._frame = 0
        return dm_env.restart(self._position.copy())

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Move the dot for one frame."""
        if self._frame == EPISODE_FRAMES:
            return self.reset()
        self._frame += 1
        self._position = np.clip(self._position + SPEED * np.asarray(action), -1.0, 1.0)
        reward = 1.0 - float(np.abs(self._position).max())
        if self._frame == EPISODE_FRAMES:
            return dm_env.truncation(reward, self._position.copy(), discount=1.0)
        return dm_env.transition(reward, self._position.copy(), discount=1.0)

    def observation_spec(self) -> specs.Array:
        """Position of the dot."""
        return specs.BoundedArray((2,), np.float64, -1.0, 1.0, "position")

    def action_spec(self) -> specs.BoundedArray:
        """Velocity of the dot."""
        return specs.BoundedArray((2,), np.float32, -1.0, 1.0, "action")

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the dot as a smooth blob: (height, width, 3) uint8."""
        y = np.linspace(-1.0, 1.0, height)[:, None] - self._position[0]
        x = np.linspace(-1.0, 1.0, width)[None, :] - self._position[1]
        blob = np.exp(-(x**2 + y**2) / 0.08)
        return np.repeat((255 * blob).astype(np.uint8)[:, :, None], 3, axis=2)
