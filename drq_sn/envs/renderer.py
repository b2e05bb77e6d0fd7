"""Rendering of dm_control environments."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np


class Renderer:
    """Renders the current state from one camera; a lost OpenGL context is recreated once per frame.

    dm_control's `physics.render` allocates a scene for every frame; this class keeps one per size as
    long as the model stays the same. The pixels are equal.

    Args:
        task: name for warnings.
        env: a dm_control environment.
        camera: number or name of its camera.
        flag_overrides: MuJoCo rendering flags that differ from the default.
        shadow_map_size: side of the shadow texture, in pixels; None for the model's default.
    """

    def __init__(
        self, task: str, env: Any, camera: int | str, flag_overrides: dict[str, bool], shadow_map_size: int | None
    ) -> None:
        self._task, self._env, self._camera = task, env, camera
        self._flag_overrides, self._shadow_map_size = flag_overrides, shadow_map_size
        self._model: Any = None
        self._cameras: dict[tuple[int, int], Any] = {}

    def __call__(self, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8, valid until the next call with the same size."""
        try:
            return self._render(height, width)
        except Exception as error:  # MuJoCo and OpenGL raise many types for a lost context
            warnings.warn(f"{self._task}: rendering failed ({error}); creating a new OpenGL context", stacklevel=2)
            # private: dm_control has no public way to drop a lost context, and freeing it fails; it creates a new one
            self._env.physics._contexts = None
            return self._render(height, width)

    def _render(self, height: int, width: int) -> np.ndarray:
        from dm_control.mujoco import Camera

        physics = self._env.physics
        if physics.model.ptr is not self._model:  # manipulation tasks compile a new model for every episode
            self._model = physics.model.ptr
            self._cameras.clear()
            if self._shadow_map_size is not None:  # MuJoCo reads it at the first frame of a model
                physics.model.vis.quality.shadowsize = self._shadow_map_size
        if (height, width) not in self._cameras:
            self._cameras[height, width] = Camera(physics, height, width, self._camera)
        return np.asarray(self._cameras[height, width].render(render_flag_overrides=self._flag_overrides))
