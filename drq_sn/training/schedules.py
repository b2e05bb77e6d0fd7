"""Values that change with the environment step."""

from __future__ import annotations

import math

from drq_sn import validation


class Constant:
    """The same value at every step."""

    def __init__(self, value: float) -> None:
        self.value = validation.real("schedule.value", value, float("-inf"))

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        return self.value


class Linear:
    """From `initial` at step 0 to `final` at `duration_steps`, constant after that."""

    def __init__(self, initial: float, final: float, duration_steps: int) -> None:
        self.initial = validation.real("schedule.initial", initial, 0)
        self.final = validation.real("schedule.final", final, 0)
        self.duration_steps = validation.integer("schedule.duration_steps", duration_steps)

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        progress = min(step / self.duration_steps, 1.0)
        return (1.0 - progress) * self.initial + progress * self.final


class LinearToZero:
    """From 1 at the start of a run to 0.

    Args:
        num_train_frames: length of the run in simulator frames.
        action_repeat: frames per step.
        end: share of the run after which it is 0.
    """

    def __init__(self, num_train_frames: int, action_repeat: int, end: float = 1.0) -> None:
        num_frames = validation.integer("num_train_frames", num_train_frames)
        share = validation.real("lr_schedule.end", end, 0, 1, open_low=True)
        self.duration_steps = share * num_frames / validation.integer("action_repeat", action_repeat)

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        return 1.0 - min(step / self.duration_steps, 1.0)


class CosineToZero(LinearToZero):
    """The same along half a cosine (Loshchilov and Hutter 2017)."""

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        return (1.0 - math.cos(math.pi * super().__call__(step))) / 2.0
