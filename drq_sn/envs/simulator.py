"""Any dm_env environment with what our wrappers need: frames of any size, and episodes that can be repeated."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import dm_env
import numpy as np
from PIL import Image

from drq_sn import validation
from drq_sn.envs.wrappers import Wrapper, random_state_to_json

PIXELS = "pixels"  # key of the frame in an observation that is a dictionary
RGB = 3
LARGEST_SEED = 2**31 - 1


class Simulator(Wrapper):
    """A dm_env environment that can be rendered and repeats its episodes.

    What is drawn at construction is the same in every environment of a run: it is built with seed 0. An
    episode follows from `random_state`: that of the environment's `np.random.RandomState` where it has one;
    else that of our own, from which each episode's seed is drawn and given to `reset(seed=...)` or,
    failing that, to `build`. Without any of these, episodes cannot be repeated.

    Frames come from `render(height, width)` of the environment, else from its observations.

    Args:
        build: makes the environment.
        seed: seed of the episodes.
        name: names the environment in errors.
        takes_seed: whether `build` takes the argument `seed`.

    Raises:
        InvalidInput: if there are no frames of the right kind.
    """

    def __init__(self, build: Callable[..., Any], seed: int, name: str, takes_seed: bool) -> None:
        super().__init__(build(**({"seed": 0} if takes_seed else {})))
        self._build, self._name = build, name
        self._seeds_reset = "seed" in _parameters(self._env.reset)
        self._random = None if self._seeds_reset else _find_random(self._env)
        self._rebuilds = takes_seed and not self._seeds_reset and self._random is None
        if self._random is not None:
            self._random.seed(seed)
        elif self._seeds_reset or self._rebuilds:
            self._random = np.random.RandomState(seed)
        self._renders = {"height", "width"} <= _parameters(getattr(self._env, "render", None))
        self._frame: Any = None
        if not self._renders:
            if getattr(self._env, "gives_planes", False):
                raise validation.InvalidInput(f"{name} must have render(height, width), for videos of its planes")
            self._require_frame("observation_spec", _pixels(self._env.observation_spec()))

    @property
    def random_state(self) -> str:
        """What the next episode follows from, as JSON; empty if episodes cannot be repeated."""
        return "" if self._random is None else random_state_to_json(self._random.get_state(legacy=False))

    @random_state.setter
    def random_state(self, text: str) -> None:
        if self._random is not None:
            self._random.set_state(json.loads(text))

    def reset(self) -> dm_env.TimeStep:
        """Start an episode."""
        if self._random is not None and self._seeds_reset:
            return self._check("reset", self._env.reset(seed=self._random.randint(LARGEST_SEED)))
        if self._random is not None and self._rebuilds:
            self._env.close()
            self._env = self._build(seed=self._random.randint(LARGEST_SEED))
        return self._check("reset", self._env.reset())

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Advance one frame."""
        return self._check("step", self._env.step(action))

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw the current state, (height, width, 3) uint8; observations of another size are resized."""
        if self._renders:
            frame = self._env.render(height, width)
            self._require_frame("render", frame)
            return np.asarray(frame)
        if self._frame.shape[:2] == (height, width):
            return np.asarray(self._frame)
        return np.asarray(Image.fromarray(self._frame).resize((width, height), Image.Resampling.BOX))

    def _check(self, method: str, time_step: Any) -> dm_env.TimeStep:
        """Keep the frame of `time_step`, which `method` returned, and return it."""
        if not isinstance(time_step, dm_env.TimeStep):
            raise validation.InvalidInput(
                f"{method} of {self._name} must return a dm_env.TimeStep, got {type(time_step).__name__}"
            )
        reward, discount = time_step.reward, time_step.discount
        if not time_step.first() and not (_is_number(reward) and _is_number(discount) and 0.0 <= discount <= 1.0):
            raise validation.InvalidInput(
                f"{method} of {self._name} must return a number as reward and one in [0, 1] as discount, "
                f"got {reward!r} and {discount!r}"
            )
        if not self._renders:
            self._frame = _pixels(time_step.observation)
            self._require_frame("observation", self._frame)
        return time_step

    def _require_frame(self, what: str, frame: Any) -> None:
        """Raise `InvalidInput` unless an array, or its spec, is (H, W, 3) uint8."""
        shape, dtype = getattr(frame, "shape", None), getattr(frame, "dtype", None)
        if dtype != np.uint8 or shape is None or len(shape) != RGB or shape[-1] != RGB:
            got = f"a dictionary of {', '.join(map(str, frame))}" if isinstance(frame, Mapping) else f"{dtype} {shape}"
            raise validation.InvalidInput(
                f"{what} of {self._name} must be (H, W, 3) uint8, or a dictionary with such `{PIXELS}`, got {got}"
            )


def _find_random(env: Any) -> np.random.RandomState | None:
    """The generator that `env` draws its episodes from; dm_control keeps it in the task or in `random_state`."""
    places = [(env, "random"), (getattr(env, "task", None), "random"), (env, "random_state")]
    candidates = (getattr(owner, name, None) for owner, name in places)
    return next((random for random in candidates if isinstance(random, np.random.RandomState)), None)


def _parameters(function: Any) -> set[str]:
    """Names of its parameters; none where it is missing."""
    return set(inspect.signature(function).parameters) if callable(function) else set()


def _pixels(observation: Any) -> Any:
    """The frame in an observation, or in its spec."""
    is_dictionary = isinstance(observation, Mapping) and PIXELS in observation
    return observation[PIXELS] if is_dictionary else observation


def _is_number(value: Any) -> bool:
    return value is not None and np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biuf"
