"""Logs of a run: to CSV files, TensorBoard and another logger, with a progress line."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drq_sn.runs.charts import SHARED
from drq_sn.runs.loggers import CsvLogger, NullLogger
from drq_sn.runs.progress_bar import ProgressBar
from drq_sn.runs.reader import read_record
from drq_sn.runs.tensorboard import Hyperparameters, TensorBoardLogger
from drq_sn.runs.video import VideoRecorder
from drq_sn.training.metrics import GRAD_NORM, GRAD_NORM_MAX, MetricAccumulator, to_host
from drq_sn.types import Episode, Logger, Metrics, RunInfo

EPISODE_FIELDS = (
    "frame",
    "step",
    "episode",
    "episode_return",
    "num_steps",
    "num_updates",
    "num_diverged_simulations",
    "frames_per_second",
    "wall_time_s",
)
EVAL_FIELDS = (
    "frame",
    "step",
    "episode_return_mean",
    "episode_return_sd",
    "num_episodes",
    "num_diverged_simulations",
    "wall_time_s",
)
INITIAL_STATE: dict[str, Any] = {
    "frame": 0,
    "counters": (0, 0, 0),
    "diverged_simulations": {"training": 0, "evaluation": 0},
    "seconds": 0.0,
    "episode_seconds": 0.0,
    "metrics": {"sums": {}, "counts": {}, "maxima": {}},
    "train_csv": None,
    "eval_csv": None,
    "diagnostics_csv": None,
    "in_table": False,
}


class RunLogger:
    """Logs one run to CSV files, TensorBoard and further loggers, and shows its progress.

    Args:
        run_dir: existing run directory.
        num_train_frames: length of the run, for the progress line.
        metric_names: metrics of the agent's updates.
        sigma_names: spectral norms that the agent reports.
        diagnostic_names: diagnostics; empty for no `diagnostics.csv`.
        num_eval_episodes: returns per row of `eval.csv`.
        state: from `state_dict` if a run is resumed; rows written since then are dropped.
        hyperparameters: the run's row on TensorBoard's HPARAMS page; empty for none.
        config: every option, as a tree.
        further: another destination.

    Attributes:
        diverged_simulations: episodes that ended because the simulation diverged, in `training` and `evaluation`.
    """

    def __init__(
        self,
        run_dir: Path,
        num_train_frames: int,
        metric_names: Sequence[str],
        sigma_names: Sequence[str],
        diagnostic_names: Sequence[str],
        num_eval_episodes: int,
        state: dict[str, Any] | None = None,
        hyperparameters: Hyperparameters | None = None,
        config: Mapping[str, Any] | None = None,
        further: Logger | None = None,
    ) -> None:
        maxima = [name.replace(GRAD_NORM, GRAD_NORM_MAX) for name in metric_names if name.startswith(GRAD_NORM)]
        columns: dict[str, Sequence[str]] = {
            "train": [*EPISODE_FIELDS, *metric_names, *maxima, *sigma_names],
            "eval": [*EVAL_FIELDS, *(f"return_{i}" for i in range(1, num_eval_episodes + 1))],
        }
        resumed_at = None if state is None else state["frame"]
        state = state or INITIAL_STATE
        self._frame = state["frame"]
        self._num_episodes, self._num_updates, self._last_frame = state["counters"]
        self.diverged_simulations: dict[str, int] = dict(state["diverged_simulations"])
        self._metrics = MetricAccumulator()
        self._metrics.load_state_dict(state["metrics"])
        self._start = time.monotonic() - state["seconds"]
        self._episode_end = time.monotonic() - state["episode_seconds"]
        if diagnostic_names or state["diagnostics_csv"]:  # earlier rows are kept while diagnostics are off
            columns["diagnostics"] = [*SHARED, *diagnostic_names]
        self._csv = CsvLogger({table: state[f"{table}_csv"] for table in columns})
        self._in_table = bool(hyperparameters) or state["in_table"]
        board = TensorBoardLogger(hyperparameters if not state["in_table"] else None, self._in_table)
        self._loggers: list[Logger] = [self._csv, board]
        self._further = further or NullLogger()
        run = RunInfo(run_dir, config or {}, read_record(run_dir), columns, resumed_at)
        for logger in (*self._loggers, self._further):
            logger.start(run)
        self._success: bool | None = None
        self._bar = ProgressBar(num_train_frames, self._frame)

    def state_dict(self) -> dict[str, Any]:
        """Counters, clocks, metrics not yet written, and the contents of the CSV files."""
        now = time.monotonic()
        self._call("flush")
        texts = self._csv.texts
        return {
            "frame": self._frame,
            "counters": (self._num_episodes, self._num_updates, self._last_frame),
            "diverged_simulations": dict(self.diverged_simulations),
            "seconds": now - self._start,
            "episode_seconds": now - self._episode_end,
            "metrics": self._metrics.state_dict(),
            **{f"{table}_csv": texts.get(table) for table in ("train", "eval", "diagnostics")},
            "in_table": self._in_table,
        }

    def step(self, frame: int) -> None:
        """Move the progress line to `frame`."""
        self._frame = frame
        self._bar.move(frame)

    def update(self, metrics: Metrics) -> None:
        """Record the metrics of one update, without waiting for the device."""
        self._metrics.add(metrics)
        self._num_updates += 1

    def episode(
        self, frame: int, step: int, episode_return: float, num_steps: int, sigmas: Metrics, diverged: bool
    ) -> None:
        """Log a row of `train`: the episode, and means over the updates since the last row."""
        now = time.monotonic()
        self._num_episodes += 1
        self.diverged_simulations["training"] += diverged
        speed = (frame - self._last_frame) / (now - self._episode_end)
        self._last_frame, self._episode_end = frame, now
        metrics = self._metrics.pop() | to_host(sigmas)
        wall_time = now - self._start
        counts = (num_steps, self._num_updates, self.diverged_simulations["training"])
        values = (frame, step, self._num_episodes, episode_return, *counts, speed, wall_time)
        self._call("log", "train", dict(zip(EPISODE_FIELDS, values, strict=True)) | metrics)
        self._bar.show("return", episode_return)

    def evaluation(self, frame: int, step: int, episodes: Sequence[Episode]) -> None:
        """Log a row of `eval`: mean, sample standard deviation, and every return."""
        episode_returns = [episode.episode_return for episode in episodes]
        num_diverged = sum(episode.diverged for episode in episodes)
        self.diverged_simulations["evaluation"] += num_diverged
        mean = float(np.mean(episode_returns))
        sd = float(np.std(episode_returns, ddof=1)) if len(episode_returns) > 1 else float("nan")
        values = (frame, step, mean, sd, len(episode_returns), num_diverged, time.monotonic() - self._start)
        returns = {f"return_{i}": value for i, value in enumerate(episode_returns, 1)}
        self._call("log", "eval", dict(zip(EVAL_FIELDS, values, strict=True)) | returns)
        self._bar.show("eval", mean)

    def diagnostics(self, frame: int, step: int, values: dict[str, float]) -> None:
        """Log a row of `diagnostics`."""
        self._call("log", "diagnostics", {"frame": frame, "step": step, **values})

    def video(self, recorder: VideoRecorder | None, frame: int) -> None:
        """Log an evaluation episode, if it was recorded and could be written."""
        if recorder and recorder.is_complete:
            self._call("video", recorder.path, np.stack(recorder.frames), frame)

    def end(self, success: bool) -> None:
        """Note that the run will not be resumed: it finished, or diverged."""
        self._success = success

    def close(self) -> None:
        """Complete every file and close every destination."""
        with contextlib.ExitStack() as stack:  # closes all, whichever fails
            stack.callback(self._call_further, "close", self._success)
            for logger in reversed(self._loggers):
                stack.callback(logger.close, self._success)
            stack.callback(self._bar.close)

    def _call(self, method: str, *arguments: Any) -> None:
        for logger in self._loggers:
            getattr(logger, method)(*arguments)
        self._call_further(method, *arguments)

    def _call_further(self, method: str, *arguments: Any) -> None:
        """Call a method of the further logger, which must not end a run: it is left out after an error."""
        try:
            getattr(self._further, method)(*arguments)
        except Exception as error:
            warnings.warn(f"{type(self._further).__name__} failed and is disabled: {error}", stacklevel=4)
            self._further = NullLogger()
