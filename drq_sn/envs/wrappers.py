"""Wrappers of `dm_env.Environment`, each with one job.

Order, from the inside: ActionRepeat, ActionScale (dm_control's own), PixelStack. Pixels come
last so that a frame is rendered once per step and not once per repeat.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import dm_env
import numpy as np
from dm_env import specs


def random_state_to_json(state: Any) -> str:
    """What numpy's `get_state(legacy=False)` gives, as JSON; parsed again, `set_state` takes it."""
    return json.dumps({**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}})


class Wrapper(dm_env.Environment):
    """Passes everything on to `env`, unknown attributes (`physics`, `task`) included."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def reset(self) -> dm_env.TimeStep:
        return self._env.reset()

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        return self._env.step(action)

    def observation_spec(self) -> Any:
        return self._env.observation_spec()

    def action_spec(self) -> Any:
        return self._env.action_spec()

    def reward_spec(self) -> Any:
        return self._env.reward_spec()

    def discount_spec(self) -> Any:
        return self._env.discount_spec()

    def close(self) -> None:
        self._env.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class ActionRepeat(Wrapper):
    """Repeats an action for `num_repeats` frames, or until the episode ends.

    The reward is the sum over the frames; the discount their product, so that a true termination
    (0.0) is told from a time limit (1.0).
    """

    def __init__(self, env: Any, num_repeats: int) -> None:
        super().__init__(env)
        self.num_repeats = num_repeats

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance by up to `num_repeats` frames."""
        reward, discount = 0.0, 1.0
        for _ in range(self.num_repeats):
            time_step = self._env.step(action)
            if time_step.first():  # stepping a finished episode starts the next one
                return time_step
            reward += time_step.reward
            discount *= time_step.discount
            if time_step.last():
                break
        return time_step._replace(reward=reward, discount=discount)


class Render(Protocol):
    """Draws the present state."""

    def __call__(self, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8."""


class PixelStack(Wrapper):
    """Replaces the observation with the last `num_frames` rendered frames, stacked by channel.

    The observation is uint8 (3 * num_frames, image_size, image_size), oldest frame first; at an
    episode's first step the first frame is repeated. `random` is what the task draws its episodes
    from. `close` calls `release`, which gives the renderer back: dm_control's own environments and
    wrappers do not pass `close` on to it.
    """

    def __init__(
        self,
        env: Any,
        render: Render,
        release: Callable[[], None],
        random: np.random.RandomState,
        image_size: int,
        num_frames: int,
    ) -> None:
        super().__init__(env)
        self._release = release
        self._random = random
        self._render = render
        self._image_size = image_size
        self._frames: deque[np.ndarray] = deque(maxlen=num_frames)

    def observation_spec(self) -> specs.BoundedArray:
        """Shape, dtype and range of the stacked frames."""
        num_channels = 3 * (self._frames.maxlen or 0)
        return specs.BoundedArray((num_channels, self._image_size, self._image_size), np.uint8, 0, 255, "pixels")

    def reset(self) -> dm_env.TimeStep:
        """Start an episode."""
        return self._observe(self._env.reset())

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one step and render."""
        return self._observe(self._env.step(action))

    def close(self) -> None:
        """Free the renderer; the environment cannot be used afterwards."""
        self._release()

    @property
    def random_state(self) -> str:
        """What the task draws its episodes from, as JSON; setting it makes the same episodes follow."""
        return random_state_to_json(self._random.get_state(legacy=False))

    @random_state.setter
    def random_state(self, text: str) -> None:
        self._random.set_state(json.loads(text))

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the present state, (height, width, 3) uint8, from the observation's camera."""
        return self._render(height, width).copy()

    def _observe(self, time_step: dm_env.TimeStep) -> dm_env.TimeStep:
        # a copy: the renderer may draw the next frame into the same array
        frame = np.array(self._render(self._image_size, self._image_size).transpose(2, 0, 1), order="C")
        copies = (self._frames.maxlen or 0) if time_step.first() else 1
        self._frames.extend([frame] * copies)
        return time_step._replace(observation=np.concatenate(self._frames))
