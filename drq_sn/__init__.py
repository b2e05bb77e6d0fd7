"""drq_sn: a benchmark of pixel-based control with DrQ, DrQ-v2 and spectral normalization.

The public interface; docs/python.md has examples. Options and configuration files are described in docs/options.md.

Functions:
    train: train one run, or resume it; returns its run directory.
    load_agent: the trained agent of a run, with `act` for one observation and `predict` for a batch.
    load_env: the environment of a run.
    make_env: an environment by name.

Classes:
    Evaluation: what `train` tells its callback.
    InvalidInput: raised for an invalid value; its message is one line.
    TrainingDiverged: raised by `train` if a loss or weight is not finite.
    Stopped: raised by `train` after a signal and a checkpoint.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drq_sn.cli.config.saved import load_agent, load_env
    from drq_sn.cli.running.signals import Stopped
    from drq_sn.cli.train import train
    from drq_sn.envs import make_env
    from drq_sn.training.loop import TrainingDiverged
    from drq_sn.types import Evaluation
    from drq_sn.validation import InvalidInput

__version__ = "0.1.0"
__all__ = [
    "Evaluation",
    "InvalidInput",
    "Stopped",
    "TrainingDiverged",
    "load_agent",
    "load_env",
    "make_env",
    "train",
]

# imported when asked for: rendering and Hydra are slow to load, and OpenGL is chosen at import
_HOMES = {
    "Evaluation": "drq_sn.types",
    "InvalidInput": "drq_sn.validation",
    "Stopped": "drq_sn.cli.running.signals",
    "TrainingDiverged": "drq_sn.training.loop",
    "load_agent": "drq_sn.cli.config.saved",
    "load_env": "drq_sn.cli.config.saved",
    "make_env": "drq_sn.envs",
    "train": "drq_sn.cli.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
