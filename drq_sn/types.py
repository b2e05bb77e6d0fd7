"""Shared types: Batch, Metrics, episodes and the protocols."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import dm_env
import numpy as np

if TYPE_CHECKING:  # environments, and their processes, do not need torch
    from torch import Tensor

Metrics: TypeAlias = "dict[str, Tensor]"
"""Name -> detached 0-d float tensor, still on the learner's device."""


class Batch(NamedTuple):
    """n-step transitions; they hold everything that the target needs.

    Attributes:
        obs: (B, C, H, W) uint8, the stacked frames at step t.
        action: (B, A) float in [-1, 1], or (B, 1) int64 for discrete actions, the action at t.
        reward: (B,) float, the n-step return R_n from t.
        discount: (B,) float, D_n = prod of gamma * environment discount; 0 after a true
            termination, gamma^n at a time limit.
        next_obs: (B, C, H, W) uint8, the stacked frames at t + n.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor


class SimulationDiverged(Exception):
    """A simulation reached an invalid state; an environment may raise it to end the episode there."""


class DivergedStep(dm_env.TimeStep):  # type: ignore[misc]  # dm_env has no type hints
    """Last step of an episode whose simulation diverged: an end, not a transition.

    The observation is the last valid one. The episode counts as truncated after it.
    """


class Episode(NamedTuple):
    """An evaluation episode.

    Attributes:
        first_obs: (C, H, W) uint8, the first observation.
        rewards: reward of every step.
        diverged: whether the simulation diverged and ended it.
    """

    first_obs: np.ndarray
    rewards: list[float]
    diverged: bool = False

    @property
    def episode_return(self) -> float:
        """Undiscounted return; the exact sum, so that it is the same on every machine."""
        return math.fsum(self.rewards)


class Evaluation(NamedTuple):
    """An evaluation of a run.

    Attributes:
        frame: simulator frames that the agent was trained for.
        episode_return: mean return of its episodes.
        returns: return of every episode.
    """

    frame: int
    episode_return: float
    returns: tuple[float, ...]


class Environment(Protocol):
    """What the loop needs of an environment: the dm_env interface and the state of its random numbers."""

    random_state: str
    """What the next episode follows from; setting it repeats the episodes. Empty if they cannot be repeated."""

    def reset(self) -> dm_env.TimeStep:
        """Start an episode."""

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Act in [-1, 1], or by the number of an action, for one step."""

    def action_spec(self) -> Any:
        """Shape and range of an action."""


class Agent(Protocol):
    """What the loop needs of an agent."""

    def act(self, obs: np.ndarray | Tensor, step: int, explore: bool) -> np.ndarray:
        """Stacked frames (C, H, W) uint8, on any device -> action (A,) float32; the mean action unless `explore`.

        Where actions are discrete: the number of one, 0-d int64; the best unless `explore`.
        """

    def update(self, batch: Batch, step: int) -> Metrics:
        """One gradient update at environment step `step`; never waits for the device."""

    def is_finite(self) -> bool:
        """Whether all losses so far and all weights are finite; waits for the device."""

    def sigmas(self) -> Metrics:
        """Estimated spectral norm of every layer that tracks it, by layer name."""


class Replay(Protocol):
    """What the loop needs of a replay."""

    @property
    def num_transitions(self) -> int:
        """Number of n-step transitions that can be sampled now."""

    def add(self, time_step: dm_env.TimeStep, action: np.ndarray | None) -> None:
        """Store a time step and the action that led to it (None at the first step of an episode)."""

    def sample(self) -> Batch:
        """Sample transitions uniformly, with replacement."""


class Recorder(Protocol):
    """What the loop reports to; the only place where metrics are copied to the host."""

    def update(self, metrics: Metrics) -> None:
        """Record the metrics of one update, without waiting for the device."""

    def step(self, frame: int) -> None:
        """Record that training has reached `frame`."""

    def episode(
        self, frame: int, step: int, episode_return: float, num_steps: int, sigmas: Metrics, diverged: bool
    ) -> None:
        """Record the end of a training episode, and whether a diverged simulation was the reason."""

    def evaluation(self, frame: int, step: int, episodes: Sequence[Episode]) -> None:
        """Record one evaluation."""


class RunInfo(NamedTuple):
    """What a logger is told about a run.

    Attributes:
        run_dir: run directory.
        config: every option, as a tree.
        record: contents of `run.json`: choices, versions, git commit, device, ...
        columns: table -> names of its columns; see `Logger.log`.
        resumed_at: last frame of the checkpoint if the run is resumed, else None. Episodes after it, and
            evaluations from it on, are logged again.
    """

    run_dir: Path
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    columns: Mapping[str, Sequence[str]]
    resumed_at: int | None


class Logger(Protocol):
    """A destination of a run's logs: CSV files, TensorBoard, or one of your own (docs/dashboards.md)."""

    def start(self, run: RunInfo) -> None:
        """Called once, before the other methods."""

    def log(self, table: str, row: Mapping[str, float]) -> None:
        """Log a row of `train` (an episode), `eval` (an evaluation) or `diagnostics`; it has a `frame`."""

    def video(self, path: Path, frames: np.ndarray, frame: int) -> None:
        """Log an evaluation episode: its MP4, and its frames at half the size, (N, H, W, 3) uint8."""

    def flush(self) -> None:
        """Write everything; a checkpoint is about to be saved."""

    def close(self, success: bool | None) -> None:
        """End: the run finished (True), diverged (False), or can be resumed (None)."""
