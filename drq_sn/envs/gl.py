"""Selection of the OpenGL backend, before dm_control is imported.

dm_control reads MUJOCO_GL once, when it is imported, and fails only at the first frame if the backend
does not work. Each candidate is therefore tried in a separate process first.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import subprocess
import sys
import warnings
from typing import NamedTuple

from drq_sn import validation

BACKENDS = ("egl", "osmesa", "glfw")
SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "software")
EGL_DEVICE = "MUJOCO_EGL_DEVICE_ID"  # index of the GPU that renders
PYOPENGL_PLATFORM = "PYOPENGL_PLATFORM"  # mujoco sets it to its backend, and fails if it is set to another one
PROBE_SECONDS = (60, 180)  # of the first and the second try: a busy node may take long
PROBE = """
import importlib, os
module = importlib.import_module("mujoco." + os.environ["MUJOCO_GL"])  # before OpenGL: it sets PyOpenGL's platform
from OpenGL import GL
context = module.GLContext(64, 64)
context.make_current()
print(GL.glGetString(GL.GL_RENDERER).decode(), flush=True)
os._exit(0)
"""


class Backend(NamedTuple):
    """A backend that was tested to work."""

    name: str
    renderer: str

    @property
    def is_software(self) -> bool:
        """Whether frames are rendered on the CPU."""
        return any(word in self.renderer.lower() for word in SOFTWARE_RENDERERS)


def probe(name: str) -> tuple[str | None, str]:
    """Create an OpenGL context with backend `name` in another process.

    Returns:
        (renderer string, "") if it works, else (None, last line of the error).

    Raises:
        TimeoutError: if it does not answer, at two tries.
    """
    environment = {**os.environ, "MUJOCO_GL": name}
    for seconds in PROBE_SECONDS:
        with contextlib.suppress(subprocess.TimeoutExpired):
            command = [sys.executable, "-c", PROBE]
            result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
            break
    else:
        raise TimeoutError(f"OpenGL with {name} did not answer within {PROBE_SECONDS[-1]} s; is this machine busy?")
    if result.returncode == 0 and result.stdout.strip():
        return result.stdout.strip().splitlines()[-1], ""
    return None, (result.stderr.strip().splitlines() or ["no output"])[-1]


@functools.cache
def select_backend() -> Backend:
    """Select the first backend that works, or the user's MUJOCO_GL, and set MUJOCO_GL to it.

    A PYOPENGL_PLATFORM of another backend, and a MUJOCO_EGL_DEVICE_ID that EGL cannot use, are removed from the
    environment, with a warning.

    Raises:
        InvalidInput: if none works; the message names the packages to install.
        TimeoutError: if one does not answer, which says nothing about the others.
    """
    requested = os.environ.get("MUJOCO_GL", "").lower()
    if requested:
        validation.choice("MUJOCO_GL", requested, BACKENDS)
    errors = []
    platform = os.environ.pop(PYOPENGL_PLATFORM, "")
    for name in [requested] if requested else BACKENDS:
        renderer, error = probe(name)
        if renderer is None and name == "egl" and (egl_device := os.environ.pop(EGL_DEVICE, "")):
            renderer, error = probe(name)  # EGL may number GPUs differently
            if renderer is not None:
                warnings.warn(
                    f"{EGL_DEVICE}={egl_device} is not usable and ignored; rendering with {renderer}", stacklevel=2
                )
        if renderer is not None:
            if platform not in ("", name):
                warnings.warn(f"{PYOPENGL_PLATFORM}={platform} is ignored; rendering with {name}", stacklevel=2)
            os.environ["MUJOCO_GL"] = name
            backend = Backend(name, renderer)
            if backend.is_software:  # both contain LLVM: with Mesa first, torch's import of Triton crashes
                with contextlib.suppress(ImportError):
                    importlib.import_module("triton")
            return backend
        errors.append(f"{name} ({error})")
    raise validation.InvalidInput(
        f"no OpenGL backend renders: {'; '.join(errors)}. "
        "Install Mesa: apt-get install libegl1 libgl1-mesa-dri libosmesa6 (Debian, Ubuntu) "
        "or dnf install mesa-libEGL mesa-dri-drivers mesa-libOSMesa (Fedora, RHEL)"
    )


@functools.cache
def find_backend() -> Backend:
    """`select_backend`; where none works, a backend named `none`, for environments that do not need one."""
    try:
        return select_backend()
    except (validation.InvalidInput, TimeoutError):
        return Backend("none", "none")
