"""Ends an episode whose simulation diverged."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import dm_env
import numpy as np

from drq_sn.envs.wrappers import Wrapper
from drq_sn.types import DivergedStep, SimulationDiverged

try:
    from dm_control.rl.control import PhysicsError
except ImportError:  # on a machine where agents only act
    PhysicsError = SimulationDiverged

ERRORS = (SimulationDiverged, PhysicsError, ArithmeticError, np.linalg.LinAlgError)
MAX_RESETS, MAX_WARNINGS = 10, 10


class DivergenceGuard(Wrapper):
    """Turns an error of the simulator, or a reward or observation that is not finite, into a `DivergedStep`.

    dm_control raises `PhysicsError` in rare states of MuJoCo and advises to discard the rest of the episode.

    Args:
        env: environment to wrap; one call of `step` is one frame. Its observations are arrays or mappings of them.
        name: its name, for messages.
    """

    def __init__(self, env: Any, name: str) -> None:
        super().__init__(env)
        self._name = name
        self._frame, self._num_warnings = 0, 0
        self._is_over = True
        self._observation: Any = None

    def reset(self) -> dm_env.TimeStep:
        """Start an episode; a reset that diverges is repeated.

        Raises:
            SimulationDiverged: after ten resets in a row that diverged.
        """
        for _ in range(MAX_RESETS):
            self._frame = 0
            try:
                return self._accept(self._env.reset())
            except ERRORS as error:
                self._warn(error, "trying another reset")
        raise SimulationDiverged(f"{self._name}: the simulation diverged in {MAX_RESETS} resets in a row")

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one frame; the frame at which the simulation diverged repeats the last observation."""
        if self._is_over:
            return self.reset()
        self._frame += 1
        try:
            return self._accept(self._env.step(action))
        except ERRORS as error:
            self._warn(error, "the episode ends there")
            self._is_over = True
            return DivergedStep(dm_env.StepType.LAST, 0.0, 1.0, self._observation)

    def _accept(self, time_step: dm_env.TimeStep) -> dm_env.TimeStep:
        """`time_step`, if it is finite."""
        if not time_step.first() and not np.isfinite(time_step.reward):
            raise SimulationDiverged(f"reward {time_step.reward}")
        observation = time_step.observation
        for name, value in (observation if isinstance(observation, Mapping) else {"observation": observation}).items():
            if np.asarray(value).dtype.kind == "f" and not np.isfinite(value).all():
                raise SimulationDiverged(f"{name} is not finite")
        self._is_over, self._observation = time_step.last(), observation
        return time_step

    def _warn(self, error: Exception, consequence: str) -> None:
        self._num_warnings += 1
        if self._num_warnings > MAX_WARNINGS:
            return
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, SimulationDiverged) else str(error)
        more = "; further ones are only counted" if self._num_warnings == MAX_WARNINGS else ""
        warnings.warn(
            f"{self._name}: the simulation diverged at frame {self._frame} of an episode ({reason}); "
            f"{consequence}{more}",
            stacklevel=3,
        )
