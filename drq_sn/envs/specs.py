"""Shapes of observations and actions, as data: what an agent needs to know of an environment."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from dm_env import specs

from drq_sn import validation

LARGEST = 10_000  # of any dimension in a file


class Specs(NamedTuple):
    """Stands in for an environment where an agent is built without one."""

    obs_shape: tuple[int, ...]  # (C, H, W) of the stacked frames
    action_shape: tuple[int, ...]  # of an action; (A,), or () for discrete actions
    num_actions: int | None = None  # number of discrete actions; None for continuous ones

    def observation_spec(self) -> specs.BoundedArray:
        """Stacked frames, uint8."""
        return specs.BoundedArray(self.obs_shape, np.uint8, 0, 255)

    def action_spec(self) -> specs.BoundedArray:
        """Actions in [-1, 1], or their numbers."""
        if self.num_actions is not None:
            return specs.DiscreteArray(self.num_actions)
        return specs.BoundedArray(self.action_shape, np.float32, -1.0, 1.0)


def specs_of(env: Any) -> Specs:
    """The specs of `env`, which has `observation_spec` and `action_spec`."""
    action = env.action_spec()
    num_actions = getattr(action, "num_values", None)
    return Specs(tuple(env.observation_spec().shape), tuple(action.shape), num_actions and int(num_actions))


def parse_specs(name: str, saved: Any) -> Specs:
    """What `Specs._asdict` returned; `InvalidInput` that begins with `name` if `saved` is anything else."""
    given: dict[str, Any] = saved if isinstance(saved, dict) else {}
    shapes = {field: given.get(field) for field in ("obs_shape", "action_shape")}
    for field, shape in shapes.items():
        if not isinstance(shape, (list, tuple)) or len(shape) > 3 or (field == "obs_shape" and len(shape) != 3):
            raise validation.InvalidInput(f"{name}.{field} must be a shape, got {shape!r}")
        for size in shape:
            validation.integer(f"{name}.{field}", size, maximum=LARGEST)
    num_actions = given.get("num_actions")
    if num_actions is not None:
        validation.integer(f"{name}.num_actions", num_actions, maximum=LARGEST)
    return Specs(tuple(shapes["obs_shape"] or ()), tuple(shapes["action_shape"] or ()), num_actions)
