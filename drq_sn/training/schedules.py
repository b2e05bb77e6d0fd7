"""Schedules: environment step -> value.

Errors name an option from its dot on, such as `.value`: whoever builds a schedule knows which option it is for
(`cli.config.build.instantiate`).
"""

from __future__ import annotations

import math

from drq_sn import validation


class Constant:
    """The same value at every step."""

    def __init__(self, value: float) -> None:
        self.value = validation.real(".value", value, float("-inf"))

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        del step
        return self.value


class Linear:
    """Linear from `initial` at `start_step` to `final` after `duration_steps`; constant before and after."""

    def __init__(self, initial: float, final: float, duration_steps: int, start_step: int = 0) -> None:
        self.initial = validation.real(".initial", initial, 0)
        self.final = validation.real(".final", final, 0)
        self.duration_steps = validation.integer(".duration_steps", duration_steps)
        self.start_step = validation.integer(".start_step", start_step, minimum=0)

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        progress = min(max(step - self.start_step, 0) / self.duration_steps, 1.0)
        return (1.0 - progress) * self.initial + progress * self.final


class LinearToZero:
    """Linear from 1 at the start of a run to 0.

    Args:
        num_train_frames: length of the run in simulator frames.
        action_repeat: frames per step.
        end: fraction of the run after which the value is 0.
    """

    def __init__(self, num_train_frames: int, action_repeat: int, end: float = 1.0) -> None:
        num_frames = validation.integer("num_train_frames", num_train_frames)
        fraction = validation.real(".end", end, 0, 1, open_low=True)
        self.duration_steps = fraction * num_frames / validation.integer("action_repeat", action_repeat)

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        return 1.0 - min(step / self.duration_steps, 1.0)


class CosineToZero(LinearToZero):
    """Half a cosine from 1 at the start of a run to 0 (Loshchilov and Hutter 2017)."""

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        return (1.0 - math.cos(math.pi * super().__call__(step))) / 2.0
