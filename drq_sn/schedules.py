"""Values that change with the environment step."""

from __future__ import annotations

from drq_sn import checks


class Constant:
    """The same value at every step."""

    def __init__(self, value: float) -> None:
        self.value = checks.real("schedule.value", value, float("-inf"))

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        return self.value


class Linear:
    """From `initial` at step 0 to `final` at `duration_steps`, constant after that."""

    def __init__(self, initial: float, final: float, duration_steps: int) -> None:
        self.initial = checks.real("schedule.initial", initial, 0)
        self.final = checks.real("schedule.final", final, 0)
        self.duration_steps = checks.integer("schedule.duration_steps", duration_steps)

    def __call__(self, step: int) -> float:
        """Value at `step` (environment steps)."""
        progress = min(step / self.duration_steps, 1.0)
        return (1.0 - progress) * self.initial + progress * self.final
