"""drq_sn: a benchmark of pixel-based control with DrQ, DrQ-v2 and spectral normalization.

Attributes:
    make_env: build a pixel environment by name; see `drq_sn.envs.make_env`.
    load_env: build the environment of a run; see `drq_sn.cli.config.saved.load_env`.
    load_agent: load the agent of a run; see `drq_sn.cli.config.saved.load_agent`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["load_agent", "load_env", "make_env"]

# imported when asked for: rendering and Hydra are slow to load, and OpenGL is chosen at import
_HOMES = {
    "make_env": "drq_sn.envs",
    "load_env": "drq_sn.cli.config.saved",
    "load_agent": "drq_sn.cli.config.saved",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
