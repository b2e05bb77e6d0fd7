"""Builds a pixel environment from a task name."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from drq_sn import validation
from drq_sn.envs.divergence import DivergenceGuard
from drq_sn.envs.gl import select_backend
from drq_sn.envs.renderer import Renderer
from drq_sn.envs.synthetic import PointMass
from drq_sn.envs.wrappers import ActionRepeat, PixelStack, TimeLimit

ALIASES = {"cup_catch": "ball_in_cup_catch"}
SYNTHETIC = {"synthetic_point": PointMass}  # task -> simulator(seed) that has render() and close()
MANIPULATION = "manipulation"  # a separate package in dm_control
MANIPULATION_SUFFIX = "_features"
MANIPULATION_CAMERA = "front_close"
CAMERAS = {"quadruped": 2}
NUM_STACKED_FRAMES = 3
TIME_LIMIT_FRAMES = 1000  # of tasks without one; the longest episode of those that have one


def task_names() -> dict[str, tuple[str, str]]:
    """Every valid task name -> (dm_control domain, task); manipulation tasks have domain `manipulation`."""
    select_backend()
    _silence_imports()
    from dm_control import manipulation, suite

    names = {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}
    for task in manipulation.ALL:
        if task.endswith(MANIPULATION_SUFFIX):
            names[task.removesuffix(MANIPULATION_SUFFIX)] = (MANIPULATION, task)
    names.update({alias: names[name] for alias, name in ALIASES.items()})
    return names


def _silence_imports() -> None:
    """Silence log messages that dm_control and PyOpenGL write when imported."""
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("OpenGL").setLevel(logging.WARNING)


def require_task(task: str) -> tuple[str, str]:
    """Name of `task` in dm_control, as (domain, task).

    Raises:
        InvalidInput: for an unknown task, with the nearest names.
    """
    if task in SYNTHETIC:
        return "synthetic", task
    names = task_names()
    return names[validation.choice("task", task, [*names, *SYNTHETIC])]


def make_env(
    task: str,
    seed: int = 0,
    *,
    image_size: int = 84,
    action_repeat: int = 2,
    shadows: bool = True,
    reflections: bool = True,
    shadow_map_size: int | None = None,
    time_limit_frames: int | None = None,
) -> PixelStack:
    """Build a task of the DeepMind Control Suite with pixel observations.

    Args:
        task: `{domain}_{task}` of the suite (`cheetah_run`), a manipulation task (`reach_duplo`),
            the alias `cup_catch`, or `synthetic_point`, a tiny task without a simulator.
        seed: seed of the task's random numbers.
        image_size: height and width of a frame, in pixels.
        action_repeat: simulator frames per step.
        shadows: render shadows; without them, software rendering is several times faster and pixels differ.
        reflections: render reflections; turning them off has the same effects.
        shadow_map_size: side of the shadow texture, in pixels; None for the task's default. Smaller
            ones are faster in software and move some edges of shadows (docs/performance.md).
        time_limit_frames: frames after which an episode is truncated, if the task has not ended it by then;
            None for 1000, with a warning the first time that it is needed.

    Returns:
        A `dm_env.Environment`: observations uint8 (9, image_size, image_size), actions in [-1, 1]. An episode
        whose simulation diverges ends with a `drq_sn.types.DivergedStep`.

    Raises:
        InvalidInput: for an unknown task (with the nearest names) or a wrong number.
    """
    validation.integer("seed", seed, minimum=0)
    validation.integer("env.image_size", image_size)
    validation.integer("action_repeat", action_repeat)
    validation.boolean("env.shadows", shadows)
    validation.boolean("env.reflections", reflections)
    if shadow_map_size is not None:
        validation.integer("env.shadow_map_size", shadow_map_size)
    if time_limit_frames is not None:
        validation.integer("env.time_limit_frames", time_limit_frames)
    if task in SYNTHETIC:
        simulator = SYNTHETIC[task](seed)
        return PixelStack(
            ActionRepeat(_bounded(simulator, task, time_limit_frames), action_repeat),
            simulator.render,
            simulator.close,
            simulator.random,
            image_size,
            NUM_STACKED_FRAMES,
        )
    domain, name = require_task(task)
    env = _load(domain, name, seed)
    camera = MANIPULATION_CAMERA if domain == MANIPULATION else CAMERAS.get(domain, 0)
    # override only what differs: the default must render the published pixels
    off = {flag: False for flag, on in (("shadow", shadows), ("reflection", reflections)) if not on}

    from dm_control.suite.wrappers import action_scale

    repeated = ActionRepeat(_bounded(env, task, time_limit_frames), action_repeat)
    scaled = action_scale.Wrapper(repeated, minimum=-1.0, maximum=1.0)
    random = env.random_state if domain == MANIPULATION else env.task.random
    renderer = Renderer(task, env, camera, off, shadow_map_size)
    return PixelStack(scaled, renderer, lambda: env.physics.free(), random, image_size, NUM_STACKED_FRAMES)


def _bounded(env: Any, task: str, time_limit_frames: int | None) -> TimeLimit:
    """`env` with episodes that end: at the time limit, or where the simulation diverges."""

    def warn() -> None:
        if time_limit_frames is None:
            warnings.warn(
                f"{task}: an episode did not end within {TIME_LIMIT_FRAMES} frames and is truncated there; "
                "env.time_limit_frames sets the limit",
                stacklevel=2,
            )

    return TimeLimit(DivergenceGuard(env, task), time_limit_frames or TIME_LIMIT_FRAMES, warn)


def _load(domain: str, name: str, seed: int) -> Any:
    from dm_control import manipulation, suite

    if domain == MANIPULATION:
        return manipulation.load(name, seed=seed)
    return suite.load(domain, name, task_kwargs={"random": seed})
