"""Builds a pixel environment: a simulator from any source, then the wrappers that all sources share."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dm_env import specs

from drq_sn import validation
from drq_sn.envs.divergence import DivergenceGuard
from drq_sn.envs.gl import find_backend
from drq_sn.envs.simulator import Simulator
from drq_sn.envs.wrappers import ActionRepeat, ActionScale, PixelStack, TimeLimit

SUITE = "drq_sn.envs.suite.make_env"
RENDER_OPTIONS = ("camera", "shadows", "reflections", "shadow_map_size")
MOST_FRAMES = 100  # per observation
TIME_LIMIT_FRAMES = 1000  # of tasks without one; the longest episode of those that have one
DM_ENV_METHODS = ("reset", "step", "observation_spec", "action_spec", "close")

Maker = Callable[..., Any]
"""Builds a `dm_env.Environment`; docs/environments.md has the contract."""


def make_env(
    task: str,
    seed: int = 0,
    *,
    maker: str | Maker = SUITE,
    action_repeat: int = 2,
    image_size: int = 84,
    frame_stack: int = 3,
    time_limit_frames: int | None = None,
    **options: Any,
) -> PixelStack:
    """Build an environment with pixel observations.

    Args:
        task: name of the task; by default a task of the DeepMind Control Suite (`cheetah_run`).
        seed: seed of the episodes.
        maker: function that builds the environment, or its name, MODULE.FUNCTION; docs/environments.md.
        action_repeat: simulator frames per step.
        image_size: height and width of a frame, in pixels.
        frame_stack: frames per observation.
        time_limit_frames: frames after which an episode is truncated, if it has not ended by then; None for 1000,
            with a warning the first time that it is needed.
        options: arguments of `maker`; see `drq_sn.envs.suite.make_env` for those of the suite.

    Returns:
        A `dm_env.Environment`: observations uint8 (3 * frame_stack, image_size, image_size), actions in [-1, 1], or
        integers where `maker` has a `DiscreteArray` of them.
        An episode whose simulation diverges ends with a `drq_sn.types.DivergedStep`.

    Raises:
        InvalidInput: for an unknown task (with the nearest names), a wrong option or an unusable `maker`.
    """
    validation.integer("seed", seed, minimum=0)
    validation.integer("env.image_size", image_size)
    validation.integer("env.frame_stack", frame_stack, maximum=MOST_FRAMES)
    validation.integer("action_repeat", action_repeat)
    if time_limit_frames is not None:
        validation.integer("env.time_limit_frames", time_limit_frames)
    env = build_simulator(maker, seed, {"task": task, "image_size": image_size, **options})
    # from here on, all environments are alike
    warning = (
        f"{task}: an episode did not end within {TIME_LIMIT_FRAMES} frames and is truncated there; "
        "env.time_limit_frames sets the limit"
    )
    limit = (TIME_LIMIT_FRAMES, warning) if time_limit_frames is None else (time_limit_frames, "")
    bounded = TimeLimit(DivergenceGuard(env, task), *limit)
    is_discrete = isinstance(env.action_spec(), specs.DiscreteArray)
    scaled = bounded if is_discrete else ActionScale(bounded)
    return PixelStack(ActionRepeat(scaled, action_repeat), image_size, frame_stack)


def build_simulator(maker: str | Maker, seed: int, options: dict[str, Any]) -> Simulator:
    """Call `maker` with those of `task`, `image_size` and `RENDER_OPTIONS` that it names, and all other options.

    Raises:
        InvalidInput: if it is unusable, does not take the options, or does not return a dm_env environment.
    """
    function = resolve_maker(maker)
    name = maker if isinstance(maker, str) else getattr(maker, "__qualname__", repr(maker))
    try:
        signature = inspect.signature(function)
    except ValueError as error:  # a builtin
        raise validation.InvalidInput(
            f"env._target_ must be a Python function or class, got {name} ({error})"
        ) from None
    optional = {"task", "image_size", *RENDER_OPTIONS} - signature.parameters.keys()
    if "camera" in optional and options.get("camera") is not None:
        raise validation.InvalidInput(f"env.camera must be null for {name}, which takes no camera")
    arguments = {option: value for option, value in options.items() if option not in optional}
    takes_seed = "seed" in signature.parameters
    try:
        signature.bind(**arguments, **({"seed": 0} if takes_seed else {}))
    except TypeError as error:
        raise validation.InvalidInput(f"{name}: {error}") from None
    build = functools.partial(_build, function, name, arguments)
    return Simulator(build, seed, name, takes_seed)


def _build(function: Maker, name: str, arguments: dict[str, Any], **seed: int) -> Any:
    env = function(**arguments, **seed)
    if not all(callable(getattr(env, method, None)) for method in DM_ENV_METHODS):
        raise validation.InvalidInput(
            f"{name} must return a dm_env.Environment, got {type(env).__name__}; env=gymnasium adapts Gymnasium's"
        )
    return env


def resolve_maker(maker: str | Maker) -> Maker:
    """The function that `maker` names; modules are found in the working directory too.

    Raises:
        InvalidInput: if it cannot be imported or called.
    """
    if callable(maker):
        return maker
    module, _, attribute = str(maker).rpartition(".")
    if module.startswith("."):
        raise validation.InvalidInput(f"env._target_ must be MODULE.FUNCTION without a path, got {maker!r}")
    if module not in sys.modules:
        find_backend()  # sets MUJOCO_GL, which simulators read when they are imported
    if not module.startswith(f"{__package__}."):
        search_working_directory()
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise validation.InvalidInput(
            f"env._target_ must be MODULE.FUNCTION, both of which exist, got {maker!r} ({error})"
        ) from error
    if not callable(function):
        raise validation.InvalidInput(f"env._target_ must be a function or class, got {maker!r}, which is {function!r}")
    return function  # type: ignore[no-any-return]  # attribute of a module


def search_working_directory() -> None:
    """Let modules of the user be found in the working directory too.

    Only for names that the user trusts: the working directory may be a run directory with a `gymnasium.py` in it.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
