"""drq_sn: a benchmark of pixel-based control with DrQ, DrQ-v2 and spectral normalisation.

Attributes:
    make_env: build a pixel environment by name; see `drq_sn.envs.make_env`.
    load_agent: load the agent of a finished run; see `drq_sn.cli.build.load_agent`.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_agent", "make_env"]


def __getattr__(name: str) -> Any:
    # imported when asked for: rendering and Hydra are slow to load, and OpenGL is chosen at import
    if name == "make_env":
        from drq_sn.envs import make_env

        return make_env
    if name == "load_agent":
        from drq_sn.cli.build import load_agent

        return load_agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
