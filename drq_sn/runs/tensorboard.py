"""TensorBoard events of a run: scalars, texts, images, the layout of charts, and a row on the HPARAMS page.

The HPARAMS page takes its columns from the first run that it reads, so every run
must have the same columns.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import yaml
from numpy.typing import NDArray
from tensorboard.compat import tf
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import custom_scalars
from torch.utils.tensorboard.summary import text as text_summary

from drq_sn.runs.charts import chart_layout, tag
from drq_sn.types import RunInfo

Hyperparameters = Mapping[str, str | float | bool | None]
"""Option -> value; None if a numeric option does not apply. Every run has the same options, most relevant first."""

NUM_SHOWN = 5  # columns that the HPARAMS page shows by default: those marked as different, then by name
METRICS = (
    "eval/episode_return",
    "train/episode_return",
    "learner/critic_loss",
    "grad_norm/critic",
    "grad_norm/actor",
    "throughput/frames_per_second",
)
"""Tags whose last values are shown on the HPARAMS page."""

NUM_FRAMES, NUM_IN_STRIP = 60, 8  # of a video that are shown
MOVING_MS = 5000


class TensorBoardLogger:
    """Writes TensorBoard events: scalars, configuration and record as text, videos as moving images and as strips.

    If that fails, it warns once and writes no more, because CSV files hold the same numbers.

    Args:
        hyperparameters: the run's row on the HPARAMS page, unless it was opened before; empty for none.
        in_table: whether there is such a row now or from before.
    """

    def __init__(self, hyperparameters: Hyperparameters | None, in_table: bool) -> None:
        self._hyperparameters, self._in_table = hyperparameters, in_table
        self._writer: FileWriter | None = None

    def start(self, run: RunInfo) -> None:
        """Open the file; write the layout of charts, the row on the HPARAMS page and the texts."""
        self._run_dir = run.run_dir
        with self._warn_on_error():
            self._writer = FileWriter(str(run.run_dir))
        if run.resumed_at is not None:  # TensorBoard ignores what older event files hold from there on
            self._add(run.resumed_at + 1, file_version="brain.Event:2")
            self._add(run.resumed_at + 1, session_log=SessionLog(status=SessionLog.START))
        columns = run.columns["train"], run.columns.get("diagnostics", ())
        layout = custom_scalars(chart_layout(*columns))  # type: ignore[no-untyped-call]  # no hints
        self._add(summary=layout)
        if self._hyperparameters:
            for summary in session_start(self._hyperparameters):
                self._add(summary=summary)
        for name, markdown in texts(run).items():
            summary = text_summary(name, markdown)  # type: ignore[no-untyped-call]  # no hints
            self._add(run.resumed_at or 0, summary=summary)

    def log(self, table: str, row: Mapping[str, float]) -> None:
        """Write the columns of `row` that have a chart."""
        for column, value in row.items():
            if name := tag(table, column):
                self._add(int(row["frame"]), summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]))

    def video(self, path: Path, frames: NDArray[np.uint8], frame: int) -> None:  # noqa: ARG002, part of the protocol
        """Write a moving image, and a strip of frames from the first to the last."""
        frames = frames[np.unique(np.linspace(0, len(frames) - 1, NUM_FRAMES).astype(int))]
        strip = frames[np.linspace(0, len(frames) - 1, NUM_IN_STRIP).astype(int)]
        self._image("eval/strip", np.concatenate(list(strip), axis=1), frame)
        self._image("eval/video", frames, frame)

    def flush(self) -> None:
        """Write everything to disk."""
        with self._warn_on_error():
            if self._writer:
                self._writer.flush()

    def close(self, success: bool | None) -> None:
        """Close the file, and the row on the HPARAMS page if the run will not be resumed.

        TensorBoard keeps the first end of a row.
        """
        if self._in_table and success is not None:
            status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
            end = SessionEndInfo(status=status, end_time_secs=time.time())
            self._add(summary=_summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)))
        with self._warn_on_error():
            if self._writer:
                self._writer.close()

    def _image(self, tag: str, pixels: NDArray[np.uint8], frame: int) -> None:
        """Write an image (H, W, 3), or a moving one (N, H, W, 3) that takes 5 seconds."""
        buffer = io.BytesIO()
        if pixels.ndim == 4:
            imageio.mimwrite(buffer, list(pixels), format="GIF", duration=MOVING_MS / len(pixels), loop=0)
        else:
            imageio.imwrite(buffer, pixels, format="PNG")
        height, width = pixels.shape[-3:-1]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())
        self._add(frame, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def _add(self, frame: int | None = None, **content: Any) -> None:
        with self._warn_on_error():
            if self._writer:
                self._writer.add_event(Event(**content), frame)

    @contextlib.contextmanager
    def _warn_on_error(self) -> Iterator[None]:
        """Turn a failure into a warning: a dashboard is no reason to end a run."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:  # the latter where TensorFlow is installed
            self._writer = None
            warnings.warn(f"{self._run_dir}: no more TensorBoard events, writing failed ({error})", stacklevel=4)


def texts(run: RunInfo) -> dict[str, str]:
    """Tag -> Markdown: configuration, `run.json` and the commit."""
    return {
        "config": f"```yaml\n{yaml.safe_dump(dict(run.config), sort_keys=False)}```",
        "run.json": f"```json\n{json.dumps(run.record, indent=2)}\n```",
        "git_commit": str(run.record.get("git_commit") or "unknown"),
    }


def session_start(hyperparameters: Hyperparameters) -> list[Summary]:
    """Summaries that open a run's row on the HPARAMS page: the columns, and the run's values."""
    columns = []
    session = SessionStartInfo(start_time_secs=time.time())
    for index, (name, value) in enumerate(hyperparameters.items()):
        if isinstance(value, bool):  # before numbers: a bool is an int
            kind, session.hparams[name].bool_value = api_pb2.DATA_TYPE_BOOL, value
        elif isinstance(value, str):
            kind, session.hparams[name].string_value = api_pb2.DATA_TYPE_STRING, value
        else:
            kind = api_pb2.DATA_TYPE_FLOAT64
            if value is not None:
                session.hparams[name].number_value = value
        columns.append(api_pb2.HParamInfo(name=name, type=kind, differs=index < NUM_SHOWN))
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in METRICS]
    experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)
    return [
        _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
        _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=session)),
    ]


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    summary_metadata = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=summary_metadata, tensor=metadata.NULL_TENSOR)])
