"""Tasks of dm_control, and a tiny one without a simulator."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from drq_sn import validation
from drq_sn.envs.gl import select_backend
from drq_sn.envs.renderer import Renderer
from drq_sn.envs.synthetic import PointMass
from drq_sn.envs.wrappers import Wrapper

ALIASES = {"cup_catch": "ball_in_cup_catch"}
SYNTHETIC = "synthetic_point"
MANIPULATION = "manipulation"  # a separate package in dm_control
MANIPULATION_SUFFIX = "_features"
MANIPULATION_CAMERA = "front_close"
CAMERAS = {"quadruped": 2}
DM_CONTROL = "--no-deps dm_control==1.0.44"  # what pip leaves out on Python 3.13 (setup.cfg)


class SuiteEnvironment(Wrapper):
    """A `dm_control` environment that renders."""

    def __init__(self, env: Any, render: Renderer) -> None:
        super().__init__(env)
        self.render = render

    def close(self) -> None:
        """Free the renderer; the environment cannot be used afterward."""
        self._env.physics.free()


def make_env(
    task: str,
    seed: int = 0,
    camera: int | str | None = None,
    shadows: bool = True,
    reflections: bool = True,
    shadow_map_size: int | None = None,
) -> SuiteEnvironment | PointMass:
    """Load a task of the DeepMind Control Suite.

    Args:
        task: `{domain}_{task}` of the suite (`cheetah_run`), a manipulation task (`reach_duplo`),
            the alias `cup_catch`, or `synthetic_point`, a tiny task without a simulator.
        seed: seed of the task's random numbers.
        camera: number or name of the camera; None for the published one.
        shadows: render shadows; without them, software rendering is several times faster and pixels differ.
        reflections: render reflections; turning them off has the same effects.
        shadow_map_size: side of the shadow texture, in pixels; None for the task's default. Smaller
            ones are faster in software and move some edges of shadows (docs/performance.md).

    Raises:
        InvalidInput: for an unknown task or camera (with those that exist), or a wrong value.
    """
    validation.boolean("env.shadows", shadows)
    validation.boolean("env.reflections", reflections)
    if shadow_map_size is not None:
        validation.integer("env.shadow_map_size", shadow_map_size)
    domain, name = require_task(task)
    if task == SYNTHETIC:
        if camera is not None:
            raise validation.InvalidInput(f"env.camera must be null for {task}, got {camera!r}")
        return PointMass(seed)
    from dm_control import manipulation, suite

    is_manipulation = domain == MANIPULATION
    env = manipulation.load(name, seed) if is_manipulation else suite.load(domain, name, task_kwargs={"random": seed})
    if camera is None:
        camera = MANIPULATION_CAMERA if is_manipulation else CAMERAS.get(domain, 0)
    else:
        _require_camera(task, camera, env.physics.model)
    # override only what differs: the default must render the published pixels
    off = {flag: False for flag, on in (("shadow", shadows), ("reflection", reflections)) if not on}
    return SuiteEnvironment(env, Renderer(task, env, camera, off, shadow_map_size))


def task_names() -> dict[str, tuple[str, str]]:
    """Every valid task name -> (dm_control domain, task); manipulation tasks have domain `manipulation`.

    Raises:
        InvalidInput: if dm_control is not installed.
    """
    if importlib.util.find_spec("dm_control") is None:
        raise validation.InvalidInput(f"dm_control is not installed; run pip install {DM_CONTROL}")
    select_backend()
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.WARNING)  # dm_control and PyOpenGL log what they import
    logging.getLogger("OpenGL").setLevel(logging.WARNING)
    from dm_control import manipulation, suite

    names = {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}
    for task in manipulation.ALL:
        if task.endswith(MANIPULATION_SUFFIX):
            names[task.removesuffix(MANIPULATION_SUFFIX)] = (MANIPULATION, task)
    names.update({alias: names[name] for alias, name in ALIASES.items()})
    return names


def require_task(task: str) -> tuple[str, str]:
    """Name of `task` in dm_control, as (domain, task).

    Raises:
        InvalidInput: for an unknown task, with the nearest names.
    """
    if task == SYNTHETIC:
        return "synthetic", task
    names = task_names()
    return names[validation.choice("task", task, [*names, SYNTHETIC])]


def _require_camera(task: str, camera: int | str, model: Any) -> None:
    names = [model.id2name(i, "camera") for i in range(model.ncam)]
    is_number = isinstance(camera, int) and not isinstance(camera, bool)
    if camera not in (range(model.ncam) if is_number else filter(None, names)):
        existing = ", ".join(f"{i} ({name})" if name else str(i) for i, name in enumerate(names))
        raise validation.InvalidInput(f"env.camera must be a camera of {task}: {existing}; got {camera!r}")
