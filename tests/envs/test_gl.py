"""The choice of an OpenGL backend and its side effects."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from drq_sn.envs import gl


@pytest.fixture(autouse=True)
def _no_platform(monkeypatch):
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)  # mujoco has set it


def test_a_device_that_egl_does_not_know_is_dropped_before_software_draws(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv(gl.EGL_DEVICE, "3")
    monkeypatch.setattr(
        gl, "probe", lambda name: (None, "no device 3") if gl.EGL_DEVICE in gl.os.environ else ("NVIDIA", "")
    )
    with pytest.warns(UserWarning, match="MUJOCO_EGL_DEVICE_ID=3 is not usable and ignored; rendering with NVIDIA"):
        assert gl.select_backend.__wrapped__() == gl.Backend("egl", "NVIDIA")


@pytest.mark.parametrize("platform", ["glx", "osmesa"])
def test_another_programs_pyopengl_platform_is_ignored(platform):
    code = "from drq_sn.envs import gl; print(gl.select_backend().name)"
    environment = {**os.environ, "PYOPENGL_PLATFORM": platform, "MUJOCO_GL": "egl"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout == "egl\n", result.stderr
    assert f"PYOPENGL_PLATFORM={platform} is ignored; rendering with egl" in result.stderr


@pytest.mark.parametrize(
    ("renderer", "loaded"), [("llvmpipe (LLVM 15.0.6, 256 bits)", True), ("NVIDIA H200/PCIe/SSE2", False)]
)
def test_triton_is_loaded_before_a_software_renderer(tmp_path, monkeypatch, renderer, loaded):
    """With a CUDA build of torch, Mesa's LLVM before Triton's is a segmentation fault."""
    (tmp_path / "triton.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "triton", None)  # so that what was there comes back
    del sys.modules["triton"]
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(gl, "probe", lambda name: (renderer, ""))
    gl.select_backend.__wrapped__()
    assert ("triton" in sys.modules) == loaded


def test_a_busy_machine_is_asked_twice_and_then_is_no_invalid_input(monkeypatch):
    answers = []

    def run(*_, timeout, **__):
        answers.append(timeout)
        if len(answers) != 2:
            raise subprocess.TimeoutExpired("probe", timeout)
        return subprocess.CompletedProcess("probe", 0, "NVIDIA\n", "")

    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(gl.subprocess, "run", run)
    assert gl.select_backend.__wrapped__() == gl.Backend("egl", "NVIDIA")
    assert answers[1] > answers[0]
    with pytest.raises(TimeoutError, match="OpenGL with egl did not answer within 180 s"):
        gl.select_backend.__wrapped__()
    monkeypatch.setattr(gl, "select_backend", gl.select_backend.__wrapped__)
    assert gl.find_backend.__wrapped__().name == "none"  # enough for an environment without OpenGL
