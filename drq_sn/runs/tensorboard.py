"""TensorBoard events of a run: scalars, texts, images, the layout of charts, and a row on the HPARAMS page.

TensorBoard merges the layouts of all runs chart by chart if they are equal, and reads the tags of a chart as
regular expressions that match the beginning of a tag. Charts therefore name no layers: runs with different heads
would add charts of their own. The HPARAMS page takes its columns from the first run that it reads, so every run
must have the same columns.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
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

from drq_sn.runs.video import read_frames
from drq_sn.training.metrics import GRAD_NORM, GRAD_NORM_MAX
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

NETWORKS = ("actor", "critic", "encoder")
STATE_CHARTS = {
    "Critic loss on the replay": ("critic_loss",),
    "Gradient at the action": ("action_gradient_mean", "action_gradient_max"),
    "Smoothness": ("smoothness",),
    "Effective rank": ("effective_rank/actor", "effective_rank/critic"),
    "Fraction of dormant units": ("dormant/actor", "dormant/critic"),
    "Actor pre-activations": ("actor_preactivation$", "actor_preactivation_max"),
    "Fraction of saturated actions": ("actor_saturation",),
    "Overestimation": ("q_start", "discounted_return", "overestimation"),
}
COMPARED = {  # one tag per chart, so that its lines are runs; every agent logs these
    "Return of evaluations": "eval/episode_return",
    "Return of training episodes": "train/episode_return",
    "Critic loss": "learner/critic_loss",
    **{f"Gradient norm (mean): {name}": f"{GRAD_NORM}{name}" for name in NETWORKS},
    **{f"Gradient norm (largest): {name}": f"{GRAD_NORM_MAX}{name}" for name in NETWORKS},
}
COMPARED_DIAGNOSTICS = {
    "Critic loss on the replay": "critic_loss",
    "Gradient at the action (mean)": "action_gradient_mean",
    "Smoothness": "smoothness",
    "Fraction of saturated actions": "actor_saturation",
    **{f"Effective rank: {name}": f"effective_rank/{name}" for name in ("actor", "critic")},
    **{f"Fraction of dormant units: {name}": f"dormant/{name}" for name in ("actor", "critic")},
    "Overestimation": "overestimation",
}
STATE, LAYERS = "network_state", "network_layers"  # groups of diagnostics, below those of returns and losses
SHARED = ("frame", "step")  # columns of all tables
TAGS = {  # table -> column -> tag; empty for no chart
    "train": {
        **dict.fromkeys(("frame", "step", "episode", "num_steps", "num_updates", "wall_time_s"), ""),
        "episode_return": "train/episode_return",
        "frames_per_second": "throughput/frames_per_second",
        "num_diverged_simulations": "train/diverged_simulations",
    },
    "eval": {"episode_return_mean": "eval/episode_return"},
}
NUM_FRAMES, NUM_IN_STRIP = 60, 8  # of a video that are shown
MOVING_MS = 5000
LAYER_CHARTS = {"Spectral norms": "sigma", "Frobenius norms": "frobenius", "Effective learning rates": "effective_lr"}


class EventWriter:
    """Writes an event file; if that fails, warns once and writes no more, because CSV files hold the same numbers.

    Args:
        run_dir: existing run directory.
        purge_step: TensorBoard ignores what older event files hold from this frame on; None to keep everything.
    """

    def __init__(self, run_dir: Path, purge_step: int | None = None) -> None:
        self._run_dir = run_dir
        self._writer: FileWriter | None = None
        with self._warn_on_error():
            self._writer = FileWriter(str(run_dir))
        if purge_step is not None:
            self._add(Event(file_version="brain.Event:2"), purge_step)
            self._add(Event(session_log=SessionLog(status=SessionLog.START)), purge_step)

    def layout(self, sigma_names: Sequence[str], diagnostic_names: Sequence[str]) -> None:
        """Write the layout of charts; see `chart_layout`."""
        layout = chart_layout(sigma_names, diagnostic_names)
        self._add(Event(summary=custom_scalars(layout)))  # type: ignore[no-untyped-call]  # torch has no hints here

    def scalars(self, scalars: Mapping[str, float], frame: int) -> None:
        """Write one value per tag."""
        for tag, value in scalars.items():
            self._add(Event(summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)])), frame)

    def text(self, tag: str, markdown: str, frame: int) -> None:
        """Write a text, which TensorBoard shows as Markdown."""
        self._add(Event(summary=text_summary(tag, markdown)), frame)  # type: ignore[no-untyped-call]  # no hints

    def image(self, tag: str, pixels: NDArray[np.uint8], frame: int) -> None:
        """Write an image (H, W, 3), or a moving one (N, H, W, 3) that takes 5 seconds."""
        moving = pixels.ndim == 4
        buffer = io.BytesIO()
        if moving:
            imageio.mimwrite(buffer, list(pixels), format="GIF", duration=MOVING_MS / len(pixels), loop=0)
        else:
            imageio.imwrite(buffer, pixels, format="PNG")
        height, width = pixels.shape[-3:-1]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())
        self._add(Event(summary=Summary(value=[Summary.Value(tag=tag, image=image)])), frame)

    def session_start(self, hyperparameters: Hyperparameters) -> None:
        """Open the run's row on the HPARAMS page."""
        for summary in session_start(hyperparameters):
            self._add(Event(summary=summary))

    def session_end(self, success: bool) -> None:
        """Close the run's row; only for a run that will not be resumed, because TensorBoard keeps the first end."""
        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        end = SessionEndInfo(status=status, end_time_secs=time.time())
        self._add(Event(summary=_summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))))

    def flush(self) -> None:
        """Write everything to disk."""
        if self._writer:
            with self._warn_on_error():
                self._writer.flush()

    def close(self) -> None:
        """Write everything to disk and close the file."""
        if self._writer:
            with self._warn_on_error():
                self._writer.close()

    def _add(self, event: Event, frame: int | None = None) -> None:
        if self._writer:
            with self._warn_on_error():
                self._writer.add_event(event, frame)

    @contextlib.contextmanager
    def _warn_on_error(self) -> Iterator[None]:
        """Turn a failure into a warning: a dashboard is no reason to end a run."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:  # the latter where TensorFlow is installed
            self._writer = None
            warnings.warn(f"{self._run_dir}: no more TensorBoard events, writing failed ({error})", stacklevel=4)


class TensorBoardLogger:
    """Writes TensorBoard events: scalars, configuration and record as text, videos as moving images and as strips.

    Args:
        hyperparameters: the run's row on the HPARAMS page, unless it was opened before; empty for none.
        in_table: whether there is such a row now or from before.
    """

    def __init__(self, hyperparameters: Hyperparameters | None, in_table: bool) -> None:
        self._hyperparameters, self._in_table = hyperparameters, in_table

    def start(self, run: RunInfo) -> None:
        """Open the file; write the layout of charts, the row on the HPARAMS page and the texts."""
        self._events = EventWriter(run.run_dir, None if run.resumed_at is None else run.resumed_at + 1)
        sigmas = [name for name in run.columns["train"] if name.startswith("sigma/")]
        self._events.layout(sigmas, [name for name in run.columns.get("diagnostics", ()) if name not in SHARED])
        if self._hyperparameters:
            self._events.session_start(self._hyperparameters)
        for name, markdown in texts(run).items():
            self._events.text(name, markdown, run.resumed_at or 0)

    def log(self, table: str, row: Mapping[str, float]) -> None:
        """Write what a chart shows of `row`."""
        self._events.scalars({tag(table, name): value for name, value in row.items() if tag(table, name)},
                             int(row["frame"]))  # fmt: skip

    def video(self, path: Path, frame: int) -> None:
        """Write a moving image, and a strip of frames from the first to the last."""
        try:
            frames = read_frames(path, NUM_FRAMES)
        except (OSError, RuntimeError, ValueError) as error:
            warnings.warn(f"{path}: not in TensorBoard, reading it failed ({error})", stacklevel=4)
            return
        strip = frames[np.linspace(0, len(frames) - 1, NUM_IN_STRIP).astype(int)]
        self._events.image("eval/strip", np.concatenate(list(strip), axis=1), frame)
        self._events.image("eval/video", frames, frame)

    def flush(self) -> None:
        """Write everything to disk."""
        self._events.flush()

    def close(self, success: bool | None) -> None:
        """Close the file, and the row on the HPARAMS page if the run will not be resumed."""
        if self._in_table and success is not None:
            self._events.session_end(success)
        self._events.close()


def tag(table: str, column: str) -> str:
    """TensorBoard's name of a column, by which it groups and sorts cards: returns first; empty if it has no chart."""
    if table == "diagnostics":
        kind = column.partition("/")[0]
        return "" if column in SHARED else f"{LAYERS if kind in LAYER_CHARTS.values() else STATE}/{column}"
    if column in TAGS[table] or table == "eval":
        return TAGS[table].get(column, "")
    return column if "/" in column else f"learner/{column}"


def texts(run: RunInfo) -> dict[str, str]:
    """Tag -> Markdown: configuration, `run.json` and the commit."""
    return {
        "config": f"```yaml\n{yaml.safe_dump(dict(run.config), sort_keys=False)}```",
        "run.json": f"```json\n{json.dumps(run.record, indent=2)}\n```",
        "git_commit": str(run.record.get("git_commit") or "unknown"),
    }


def chart_layout(sigma_names: Sequence[str], diagnostic_names: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Charts by category; a chart is the same for every agent and head that has it.

    Args:
        sigma_names: `sigma/{network}.{layer}`, logged per episode.
        diagnostic_names: diagnostics, logged per evaluation.
    """
    compared = COMPARED | {
        title: tag("diagnostics", name) for title, name in COMPARED_DIAGNOSTICS.items() if diagnostic_names
    }
    layout = {
        "Comparing runs": {title: _lines(f"{tag}$") for title, tag in compared.items()},
        "Return": {"Episode return": _lines("train/episode_return", "eval/episode_return")},
        "Learning": {
            "Losses": _lines(*(f"learner/{name}_loss" for name in ("critic", "actor", "temperature"))),
            "Q values": _lines("learner/q1", "learner/q2", "learner/critic_target"),
            "Gradient norms (mean)": _lines(*(GRAD_NORM + name for name in NETWORKS)),
            "Gradient norms (largest)": _lines(*(GRAD_NORM_MAX + name for name in NETWORKS)),
        },
        "Throughput": {"Frames per second": _lines("throughput/frames_per_second")},
    }
    if sigma_names:
        layout["Spectral norms"] = _charts_by_network("sigma", sigma_names)
    if diagnostic_names:
        tags = [tag("diagnostics", name) for name in diagnostic_names]
        layout["Diagnostics"] = {
            title: _lines(*(tag("diagnostics", name) for name in names)) for title, names in STATE_CHARTS.items()
        }
        for title, kind in LAYER_CHARTS.items():
            layout[f"Diagnostics: {title.lower()}"] = _charts_by_network(f"{LAYERS}/{kind}", tags)
    return layout


def _charts_by_network(prefix: str, tags: Sequence[str]) -> dict[str, list[Any]]:
    """One chart per network for the tags `{prefix}/{network}.{layer}`, whatever the names of the layers."""
    names = [tag.removeprefix(f"{prefix}/") for tag in tags if tag.startswith(f"{prefix}/")]
    networks = dict.fromkeys(name.split(".")[0] for name in names)
    return {network: _lines(rf"{prefix}/{network}\.") for network in networks}


def _lines(*tags: str) -> list[Any]:
    return ["Multiline", list(tags)]


def session_start(hyperparameters: Hyperparameters) -> list[Summary]:
    """Summaries that open a run's row on the HPARAMS page: the columns, and the run's values."""
    columns = [
        api_pb2.HParamInfo(name=name, type=_data_type(value), differs=index < NUM_SHOWN)
        for index, (name, value) in enumerate(hyperparameters.items())
    ]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in METRICS]
    experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)
    session = SessionStartInfo(start_time_secs=time.time())
    for name, value in hyperparameters.items():
        if isinstance(value, bool):  # before numbers: a bool is an int
            session.hparams[name].bool_value = value
        elif isinstance(value, str):
            session.hparams[name].string_value = value
        elif value is not None:
            session.hparams[name].number_value = value
    return [
        _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
        _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=session)),
    ]


def _data_type(value: str | float | bool | None) -> Any:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    summary_metadata = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=summary_metadata, tensor=metadata.NULL_TENSOR)])
