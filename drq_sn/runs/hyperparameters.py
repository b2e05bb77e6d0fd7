"""One line per run in TensorBoard's table of hyperparameters (its page HPARAMS), as messages for a run's own events.

TensorBoard takes the columns from the first run it meets, so every run must name the same ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

Hyperparameters = Mapping[str, str | float | bool | None]
"""Option -> its value; None for a number that does not apply. The same options in every run, the most telling ones first."""

NUM_SHOWN = 5  # columns that TensorBoard shows until it is told otherwise: of those said to differ, then by name

METRICS = (
    "eval/episode_return",
    "train/episode_return",
    "learner/critic_loss",
    "grad_norm/critic",
    "grad_norm/actor",
    "throughput/frames_per_second",
)
"""Tags whose last values stand beside the hyperparameters."""


def started(hyperparameters: Hyperparameters) -> list[Summary]:
    """What opens a run's line: the table's columns, and the run's values."""
    columns = [
        api_pb2.HParamInfo(name=name, type=_type(value), differs=place < NUM_SHOWN)
        for place, (name, value) in enumerate(hyperparameters.items())
    ]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in METRICS]
    table = api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)
    line = SessionStartInfo(start_time_secs=time.time())
    for name, value in hyperparameters.items():
        if isinstance(value, bool):  # before numbers, which bools are too
            line.hparams[name].bool_value = value
        elif isinstance(value, str):
            line.hparams[name].string_value = value
        elif value is not None:
            line.hparams[name].number_value = value
    return [
        _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=table)),
        _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=line)),
    ]


def ended(success: bool) -> Summary:
    """What closes a run's line; a run that can go on has none, since TensorBoard keeps the first that it reads."""
    status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=time.time())
    return _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _type(value: str | float | bool | None) -> int:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    summary_metadata = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=summary_metadata, tensor=metadata.NULL_TENSOR)])
