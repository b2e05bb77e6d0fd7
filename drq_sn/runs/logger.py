"""What a run writes while it trains: three CSV files, TensorBoard events, one progress line."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from drq_sn.runs import hyperparameters as table
from drq_sn.runs.tensorboard import board_layout
from drq_sn.training.metrics import GRAD_NORM, GRAD_NORM_MAX, MetricAccumulator, to_host
from drq_sn.types import Metrics

EPISODE_FIELDS = (
    "frame",
    "step",
    "episode",
    "episode_return",
    "num_steps",
    "num_updates",
    "frames_per_second",
    "wall_time_s",
)
EVAL_FIELDS = ("frame", "step", "episode_return_mean", "episode_return_sd", "num_episodes", "wall_time_s")
DIAGNOSIS_FIELDS = ("frame", "step")
LOG_SECONDS = 30.0  # between progress lines where output goes to a file


class CsvLog:
    """CSV file flushed after every row.

    Args:
        path: the file.
        fields: names of its columns.
        text: what it holds already, where a run is continued; it starts with its header otherwise.
    """

    def __init__(self, path: Path, fields: Sequence[str], text: str | None = None) -> None:
        self._path = path
        self._file = path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, fields, restval="", lineterminator="\n")
        if text is None:
            self._writer.writeheader()
        else:
            self._file.write(text)
        self._file.flush()

    @property
    def text(self) -> str:
        """Everything written so far."""
        return self._path.read_text()

    def write(self, row: dict[str, float | int]) -> None:
        """Append one row; absent fields stay empty, unknown ones raise `ValueError`."""
        self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class LineStream:
    """Turns a progress bar's redrawing of one line into lines of their own, for logs."""

    def write(self, text: str) -> None:
        """Print `text` as a line, unless it is blank."""
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


def progress_bar(num_frames: int, frame: int = 0) -> tqdm:
    """A bar of simulator frames from `frame` on: redrawn in a terminal, one line every half minute elsewhere."""
    if sys.stderr.isatty():
        return tqdm(total=num_frames, initial=frame, unit="frame", dynamic_ncols=True)
    interval = {"mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS}
    return tqdm(total=num_frames, initial=frame, unit="frame", file=LineStream(), ncols=100, **interval)


class RunLogger:
    """Logs one run: `train.csv` by episode, `eval.csv` and `diagnostics.csv` by evaluation, TensorBoard, progress.

    Args:
        run_dir: existing folder.
        num_train_frames: where progress ends.
        metric_names: what the agent's updates report.
        sigma_names: normalized layers that the agent reports.
        instrument_names: what the instruments report; none for no `diagnostics.csv`.
        num_eval_episodes: returns per row of `eval.csv`.
        state: from `state_dict`, where a run is continued: rows written since then are dropped.
        hyperparameters: the run's line in TensorBoard's table; none for no line.
    """

    def __init__(
        self,
        run_dir: Path,
        num_train_frames: int,
        metric_names: Sequence[str],
        sigma_names: Sequence[str],
        instrument_names: Sequence[str],
        num_eval_episodes: int,
        state: dict[str, Any] | None = None,
        hyperparameters: table.Hyperparameters | None = None,
    ) -> None:
        maxima = [name.replace(GRAD_NORM, GRAD_NORM_MAX) for name in metric_names if name.startswith(GRAD_NORM)]
        train_fields = [*EPISODE_FIELDS, *metric_names, *maxima, *sigma_names]
        eval_fields = [*EVAL_FIELDS, *(f"return_{i}" for i in range(1, num_eval_episodes + 1))]
        self._metrics = MetricAccumulator()
        state = state or {
            "counters": (0, 0, 0),
            "seconds": 0.0,
            "episode_seconds": 0.0,
            "train_csv": None,
            "eval_csv": None,
        }
        self._num_episodes, self._num_updates, self._last_frame = state["counters"]
        if "metrics" in state:
            self._metrics.load_state_dict(state["metrics"])
        self._start = time.monotonic() - state["seconds"]
        self._episode_end = time.monotonic() - state["episode_seconds"]
        self._train = CsvLog(run_dir / "train.csv", train_fields, state["train_csv"])
        self._eval = CsvLog(run_dir / "eval.csv", eval_fields, state["eval_csv"])
        fields = [*DIAGNOSIS_FIELDS, *instrument_names]
        text = state.get("diagnostics_csv")
        # what was measured before stays, also while the instruments are off
        self._diagnostics = CsvLog(run_dir / "diagnostics.csv", fields, text) if instrument_names or text else None
        self._board = SummaryWriter(str(run_dir), purge_step=state["frame"] + 1 if "frame" in state else None)
        self._board.add_custom_scalars(board_layout(sigma_names, instrument_names))
        if hyperparameters and not state.get("in_table"):
            self._add(*table.started(hyperparameters))
        self._in_table = bool(hyperparameters) or state.get("in_table", False)
        self._frame = state.get("frame", 0)
        self._bar = progress_bar(num_train_frames, self._frame)
        self._shown: dict[str, str] = {}

    def state_dict(self) -> dict[str, Any]:
        """Counters, clocks, metrics not yet written, and the CSV files as they are."""
        now = time.monotonic()
        self._board.flush()
        return {
            "frame": self._frame,
            "counters": (self._num_episodes, self._num_updates, self._last_frame),
            "seconds": now - self._start,
            "episode_seconds": now - self._episode_end,
            "metrics": self._metrics.state_dict(),
            "train_csv": self._train.text,
            "eval_csv": self._eval.text,
            "diagnostics_csv": self._diagnostics.text if self._diagnostics else None,
            "in_table": self._in_table,
        }

    def step(self, frame: int) -> None:
        """Move the progress line to `frame`."""
        self._frame = frame
        self._bar.update(frame - self._bar.n)

    def update(self, metrics: Metrics) -> None:
        """Take one update's metrics, without waiting for the device."""
        self._metrics.add(metrics)
        self._num_updates += 1

    def episode(self, frame: int, step: int, episode_return: float, num_steps: int, sigmas: Metrics) -> None:
        """Write a row of `train.csv`: the episode, and means over the updates since the last one."""
        now = time.monotonic()
        self._num_episodes += 1
        frames_per_second = (frame - self._last_frame) / (now - self._episode_end)
        self._last_frame, self._episode_end = frame, now
        numbers = self._metrics.pop() | to_host(sigmas)
        episode = dict(
            zip(
                EPISODE_FIELDS,
                (
                    frame,
                    step,
                    self._num_episodes,
                    episode_return,
                    num_steps,
                    self._num_updates,
                    frames_per_second,
                    now - self._start,
                ),
                strict=True,
            )
        )
        self._train.write(episode | numbers)
        scalars = {"train/episode_return": episode_return, "throughput/frames_per_second": frames_per_second}
        scalars |= {_tag(name): value for name, value in numbers.items()}
        self._write_board(scalars, frame)
        self._show("return", f"{episode_return:.1f}")

    def evaluation(self, frame: int, step: int, episode_returns: list[float]) -> None:
        """Write a row of `eval.csv`: mean, sample standard deviation, and every return."""
        mean = float(np.mean(episode_returns))
        sd = float(np.std(episode_returns, ddof=1)) if len(episode_returns) > 1 else float("nan")
        values = (frame, step, mean, sd, len(episode_returns), time.monotonic() - self._start)
        single = {f"return_{i}": value for i, value in enumerate(episode_returns, 1)}
        self._eval.write(dict(zip(EVAL_FIELDS, values, strict=True)) | single)
        self._write_board({"eval/episode_return": mean}, frame)
        self._show("eval", f"{mean:.1f}")

    def diagnosis(self, frame: int, step: int, numbers: dict[str, float]) -> None:
        """Write a row of `diagnostics.csv`: what the instruments measured."""
        if self._diagnostics:
            self._diagnostics.write(dict(zip(DIAGNOSIS_FIELDS, (frame, step), strict=True)) | numbers)
            self._write_board({f"diagnostics/{name}": value for name, value in numbers.items()}, frame)

    def end(self, success: bool) -> None:
        """Record in TensorBoard's table that the run is over and will not go on."""
        if self._in_table:
            self._add(table.ended(success))

    def close(self) -> None:
        """Finish every file; what was logged is on disk afterwards."""
        self._bar.close()
        self._train.close()
        self._eval.close()
        if self._diagnostics:
            self._diagnostics.close()
        self._board.close()

    def _show(self, name: str, text: str) -> None:
        self._shown[name] = text
        self._bar.set_postfix(self._shown, refresh=False)

    def _add(self, *summaries: Any) -> None:
        for summary in summaries:
            self._board._get_file_writer().add_summary(summary)

    def _write_board(self, scalars: dict[str, float], frame: int) -> None:
        for name, value in scalars.items():
            self._board.add_scalar(name, value, frame)


def _tag(name: str) -> str:
    return name if "/" in name else f"learner/{name}"
