"""The state of a run in a checkpoint, and when a checkpoint is due."""

from __future__ import annotations

import json
import random
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from drq_sn.agents.base import BaseAgent
from drq_sn.envs.wrappers import random_state_to_json
from drq_sn.runs.checkpoints import Checkpoint, CheckpointStore, refuse_foreign_state
from drq_sn.runs.logger import RunLogger
from drq_sn.training.loop import Loop
from drq_sn.training.replay import UniformReplay

FORMAT = 3
"""Format of a checkpoint's state; increased when older ones can no longer be resumed."""


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@dataclass
class Session:
    """A training in progress."""

    agent: BaseAgent
    replay: UniformReplay
    loop: Loop
    store: CheckpointStore
    config: str  # configuration of the run as YAML, to detect checkpoints of another run
    every_seconds: float  # longest time between checkpoints
    every_frames: int | None  # longest distance between checkpoints, in frames; None for no limit
    _saved_at: float = field(default_factory=time.monotonic)
    _saved_step: int = 0

    def save(self, logger: RunLogger) -> None:
        """Write a checkpoint; training can be resumed from the next step of the loop."""
        state = {
            "format": FORMAT,
            "config": self.config,
            "agent": self.agent.state_dict(),
            "replay": self.replay.state_dict(),
            "loop": self.loop.state_dict(),
            "logger": logger.state_dict(),
            "random": random_states(self.agent.device),
        }
        self.store.save(self.loop.step, state, self.replay)
        self._saved_at, self._saved_step = time.monotonic(), self.loop.step

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore agent, replay, loop and random states, and move the logger's metrics to the learner's device.

        Raises:
            InvalidInput: if the checkpoint is of other software.
            CheckpointsUnreadable: after an input/output error.
        """
        with refuse_foreign_state(self.store.folder):
            self._restore(checkpoint)

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        earlier_capacity = state["replay"].get("capacity", self.replay.capacity)
        if earlier_capacity < min(self.replay.capacity, state["replay"]["num_slots"]):
            warnings.warn(
                f"the shorter run kept the last {earlier_capacity} steps of its replay, a run of this length keeps "
                f"{self.replay.capacity}; training resumes, but not bit-identical to one started with this length",
                stacklevel=2,
            )
        self.agent.load_state_dict(state["agent"])
        self.replay.restore(state["replay"], self.store.replay_parts(checkpoint.parts))
        self.loop.load_state_dict(state["loop"])
        set_random_states(state["random"], self.agent.device)
        metrics = state["logger"]["metrics"]
        for kind in ("sums", "maxima"):
            metrics[kind] = {name: value.to(self.agent.device) for name, value in metrics[kind].items()}
        self._saved_step = self.loop.step

    def is_due(self) -> bool:
        """Whether to write a checkpoint now."""
        num_new_slots = self.replay.num_slots - self.store.saved_slots
        num_frames = (self.loop.step - self._saved_step) * self.loop.action_repeat
        return (
            time.monotonic() - self._saved_at >= self.every_seconds
            or (self.every_frames is not None and num_frames >= self.every_frames)
            or num_new_slots > self.replay.capacity // 2  # before the ring overwrites them
        )


def random_states(device: torch.device) -> dict[str, Any]:
    """States of the global generators, as tensors and JSON."""
    return {
        "python": json.dumps(random.getstate()),
        "numpy": random_state_to_json(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Restore what `random_states` returned; CUDA's state only if both machines have CUDA."""
    version, internal, gauss = json.loads(states["python"])
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(json.loads(states["numpy"]))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
