"""What choosing an OpenGL backend does besides."""

from __future__ import annotations

import sys

import pytest

from drq_sn.envs import gl


@pytest.mark.parametrize(("renderer", "loaded"), [("llvmpipe (LLVM 15.0.6, 256 bits)", True), ("NVIDIA H200/PCIe/SSE2", False)])
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
