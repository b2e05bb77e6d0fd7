"""Drawing a dm_control environment."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np


class Drawing:
    """Draws the present state from one camera, and makes a lost OpenGL context again once.

    dm_control's own `physics.render` allocates a scene for every frame; this keeps one for each size
    as long as the model stays the same, which draws the same pixels.

    Args:
        task: name for warnings.
        env: a dm_control environment.
        camera: number or name of its camera.
        flag_overrides: MuJoCo rendering flags that differ from the default.
        shadow_map_size: side of the texture that shadows are cut from; None for the model's own.
    """

    def __init__(
        self, task: str, env: Any, camera: int | str, flag_overrides: dict[str, bool], shadow_map_size: int | None
    ) -> None:
        self._task, self._env, self._camera = task, env, camera
        self._flag_overrides, self._shadow_map_size = flag_overrides, shadow_map_size
        self._model: Any = None
        self._cameras: dict[tuple[int, int], Any] = {}

    def __call__(self, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) uint8, valid until the next call of the same size."""
        try:
            return self._draw(height, width)
        except Exception as error:  # whatever a lost context makes MuJoCo or OpenGL raise
            warnings.warn(f"{self._task}: drawing failed ({error}); making a new OpenGL context", stacklevel=2)
            self._env.physics._contexts = None  # freeing a lost one fails too; dm_control makes a new one on demand
            return self._draw(height, width)

    def _draw(self, height: int, width: int) -> np.ndarray:
        from dm_control.mujoco import Camera

        physics = self._env.physics
        if physics.model.ptr is not self._model:  # manipulation compiles a new one for every episode
            self._model = physics.model.ptr
            self._cameras.clear()
            if self._shadow_map_size is not None:  # read when the model's OpenGL context is made, at its first frame
                physics.model.vis.quality.shadowsize = self._shadow_map_size
        if (height, width) not in self._cameras:
            self._cameras[height, width] = Camera(physics, height, width, self._camera)
        return self._cameras[height, width].render(render_flag_overrides=self._flag_overrides)
