"""Wrappers of `dm_env.Environment`.

Order, from the inside: Simulator, DivergenceGuard, TimeLimit, ActionScale, ActionRepeat, PixelStack. Pixels come last
so that a frame is rendered once per step instead of once per repeat.
"""

from __future__ import annotations

import json
import warnings
from collections import deque
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from drq_sn import validation
from drq_sn.types import DivergedStep

UNLIMITED = 1e10  # MuJoCo's mjMAXVAL


def random_state_to_json(state: Any) -> str:
    """Result of numpy's `get_state(legacy=False)` as JSON; `set_state` accepts the parsed text."""
    return json.dumps({**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}})


class Wrapper(dm_env.Environment):  # type: ignore[misc]  # dm_env has no type hints
    """Forwards everything to `env`, unknown attributes (`physics`, `task`) included."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def reset(self) -> dm_env.TimeStep:
        """Start an episode."""
        return self._env.reset()

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one step."""
        return self._env.step(action)

    def observation_spec(self) -> Any:
        """Shape, dtype and range of an observation."""
        return self._env.observation_spec()

    def action_spec(self) -> Any:
        """Shape, dtype and range of an action."""
        return self._env.action_spec()

    @property
    def random_state(self) -> str:
        """What episodes are drawn from; see `Simulator`."""
        return str(self._env.random_state)

    @random_state.setter
    def random_state(self, text: str) -> None:
        self._env.random_state = text

    def close(self) -> None:
        """Free the resources of the environment."""
        self._env.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class TimeLimit(Wrapper):
    """Truncates an episode after `num_frames` frames, if it has not ended by then.

    Args:
        env: environment to wrap; one call of `step` is one frame.
        num_frames: longest episode.
        warning: given when an episode is truncated for the first time; empty for none.
    """

    def __init__(self, env: Any, num_frames: int, warning: str = "") -> None:
        super().__init__(env)
        self._num_frames, self._warning = num_frames, warning
        self._frame, self._is_over = 0, True

    def reset(self) -> dm_env.TimeStep:
        """Start an episode."""
        self._frame, self._is_over = 0, False
        return self._env.reset()

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one frame."""
        if self._is_over:
            return self.reset()
        time_step = self._env.step(action)
        self._frame += 1
        if self._frame >= self._num_frames and not time_step.last():
            if self._warning:
                warnings.warn(self._warning, stacklevel=2)
                self._warning = ""
            time_step = time_step._replace(step_type=dm_env.StepType.LAST)
        self._is_over = time_step.last()
        return time_step


class ActionRepeat(Wrapper):
    """Repeats an action for `num_repeats` frames, or until the episode ends.

    The reward is the sum over the frames and the discount their product: 0.0 at a true termination,
    1.0 at a time limit.
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


class ActionScale(Wrapper):
    """Takes actions in [-1, 1], as dm_control's wrapper `action_scale` does.

    Actuators without limits (`lqr_*`), whose bounds dm_control gives as +-1e10, get the action as it is.

    Raises:
        InvalidInput: unless the actions of `env` are a vector of bounded numbers.
    """

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        spec = env.action_spec()
        bounds = getattr(spec, "minimum", np.nan), getattr(spec, "maximum", np.nan)
        is_vector = isinstance(spec, specs.BoundedArray) and len(spec.shape) == 1 and spec.dtype.kind == "f"
        if not is_vector or not np.isfinite(bounds).all():
            text = " ".join(repr(spec).split())
            raise validation.InvalidInput(f"actions must be a vector of floats with finite bounds, got {text}")
        self._dtype = spec.dtype
        low, high = (np.broadcast_to(bound, spec.shape).astype(np.float64) for bound in bounds)
        is_limited = (low > -UNLIMITED) & (high < UNLIMITED)
        self._low, self._high = np.where(is_limited, low, -1.0), np.where(is_limited, high, 1.0)
        self._spec = specs.BoundedArray(spec.shape, np.float32, -1.0, 1.0, spec.name)

    def action_spec(self) -> specs.BoundedArray:
        """Shape, dtype and range of an action."""
        return self._spec

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance with the action scaled to the bounds of `env`."""
        scaled = self._low + (self._high - self._low) / 2.0 * (np.asarray(action, np.float64) + 1.0)
        return self._env.step(np.clip(scaled, self._low, self._high).astype(self._dtype, copy=False))


class PixelStack(Wrapper):
    """Replaces the observation with the last `num_frames` frames, stacked by channel.

    A frame is rendered, or the observation of an environment that has `gives_planes`: (C, H, W) uint8. The stack is
    uint8 (3 * num_frames, image_size, image_size), or (C * num_frames, H, W), oldest frame first; at an episode's first
    step the first frame is repeated.

    Args:
        env: environment with `render(height, width)`.
        image_size: height and width of a rendered frame, in pixels.
        num_frames: frames per stack.

    Attributes:
        frame_shape: (C, H, W) of a frame.
        renders: whether frames are rendered.
    """

    def __init__(self, env: Any, image_size: int, num_frames: int) -> None:
        super().__init__(env)
        self.renders = not getattr(env, "gives_planes", False)
        self._image_size = image_size
        self.frame_shape = (3, image_size, image_size) if self.renders else tuple(env.observation_spec().shape)
        self._frames: deque[np.ndarray] = deque(maxlen=num_frames)

    def observation_spec(self) -> specs.BoundedArray:
        """Shape, dtype and range of the stacked frames."""
        num_channels, *size = self.frame_shape
        return specs.BoundedArray((num_channels * (self._frames.maxlen or 0), *size), np.uint8, 0, 255, "pixels")

    def reset(self) -> dm_env.TimeStep:
        """Start an episode."""
        return self._observe(self._env.reset())

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one step and render; raises `InvalidInput` for an action outside `action_spec`."""
        return self._observe(self._env.step(validation.action(action, self._env.action_spec())))

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the current state, (height, width, 3) uint8, as observations show it."""
        return np.array(self._env.render(height, width))

    def _observe(self, time_step: dm_env.TimeStep) -> dm_env.TimeStep:
        if isinstance(time_step, DivergedStep):  # the state may be impossible to draw
            return time_step._replace(observation=np.concatenate(self._frames))
        frame = time_step.observation
        if self.renders:
            frame = self._env.render(self._image_size, self._image_size).transpose(2, 0, 1)
        frame = np.array(frame, order="C")  # a copy: the environment may reuse the array for the next frame
        copies = (self._frames.maxlen or 0) if time_step.first() else 1
        self._frames.extend([frame] * copies)
        return time_step._replace(observation=np.concatenate(self._frames))
