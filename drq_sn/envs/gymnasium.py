"""Gymnasium environments as dm_env environments."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from drq_sn import validation
from drq_sn.envs.factory import search_working_directory


def make_env(task: str, render_mode: str | None = "rgb_array", **options: Any) -> GymnasiumEnvironment:
    """Make a Gymnasium environment that gives or renders pixels.

    Args:
        task: its id, such as `CarRacing-v3`, or `my_module:MyEnv-v0`.
        render_mode: mode in which it renders; None for one without, whose observations are pixels.
        options: further arguments of `gymnasium.make`.

    Raises:
        InvalidInput: if Gymnasium is missing or cannot make it, its actions are not a box, or there are no pixels.
    """
    try:
        gymnasium = importlib.import_module("gymnasium")
    except ImportError as error:
        raise validation.InvalidInput(f"env=gymnasium needs 'pip install drq_sn[gymnasium]' ({error})") from None
    if ":" in task:  # MODULE:ID
        search_working_directory()
    if render_mode is not None:
        options["render_mode"] = render_mode
    with _one_line(task, gymnasium.error.Error, ImportError, TypeError):
        env = gymnasium.make(task, **options)
    if not isinstance(env.action_space, gymnasium.spaces.Box):
        raise validation.InvalidInput(f"actions of {task} must be a Box of bounded numbers, got {env.action_space}")
    space = env.observation_space
    pixels = space["pixels"] if isinstance(space, gymnasium.spaces.Dict) and "pixels" in space.spaces else space
    gives_pixels = pixels.dtype == np.uint8 and len(pixels.shape or ()) == 3 and pixels.shape[-1] == 3
    if not gives_pixels and env.render_mode != "rgb_array":
        raise validation.InvalidInput(
            f"{task} must have pixels (H, W, 3) uint8 as observation or support render_mode=rgb_array, got {space}"
        )
    if not gives_pixels:
        with _one_line(task, gymnasium.error.Error):  # rendering may need further packages
            env.reset()
            env.render()
    return GymnasiumEnvironment(env, gives_pixels)


@contextlib.contextmanager
def _one_line(task: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise validation.InvalidInput(f"task={task}: {validation.first_line(error)}") from error


class GymnasiumEnvironment(dm_env.Environment):  # type: ignore[misc]  # dm_env has no type hints
    """A Gymnasium environment with the interface of dm_env; observations are frames (H, W, 3) uint8.

    A terminated episode ends with discount 0, a truncated one with discount 1.

    Args:
        env: a `gymnasium.Env` with a box of actions.
        gives_pixels: whether its observations are frames, or have them under `pixels`; else it is rendered.
    """

    def __init__(self, env: Any, gives_pixels: bool) -> None:
        self._env, self._gives_pixels = env, gives_pixels
        self._is_over = True

    def reset(self, seed: int | None = None) -> dm_env.TimeStep:
        """Start the episode that follows from `seed`."""
        self._is_over = False
        observation, _ = self._env.reset(seed=seed)
        return dm_env.restart(self._frame(observation))

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one step."""
        if self._is_over:
            return self.reset()
        observation, reward, terminated, truncated, _ = self._env.step(action)
        self._is_over = terminated or truncated
        frame = self._frame(observation)
        if terminated:
            return dm_env.termination(reward, frame)
        if truncated:
            return dm_env.truncation(reward, frame, discount=1.0)
        return dm_env.transition(reward, frame, discount=1.0)

    def observation_spec(self) -> specs.Array:
        """Shape, dtype and range of a frame; sizes are known once it is rendered."""
        return specs.BoundedArray((0, 0, 3), np.uint8, 0, 255, "pixels")

    def action_spec(self) -> specs.BoundedArray:
        """Shape, dtype and range of an action."""
        space = self._env.action_space
        return specs.BoundedArray(space.shape, space.dtype, space.low, space.high, "action")

    def control_timestep(self) -> float:
        """Simulated seconds per step."""
        fps = self._env.metadata.get("render_fps")
        if not fps:
            raise AttributeError("control_timestep")
        return 1.0 / float(fps)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _frame(self, observation: Any) -> np.ndarray:
        if not self._gives_pixels:
            return np.asarray(self._env.render())
        return np.asarray(observation["pixels"] if isinstance(observation, dict) else observation)
