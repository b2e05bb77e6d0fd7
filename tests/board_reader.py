"""What TensorBoard itself makes of a folder of runs."""

from __future__ import annotations

from collections import Counter

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler

STATUSES = [status for status in api_pb2.Status.values()]  # noqa: C416


def context_of(folder):
    multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 100}).AddRunsFromDirectory(str(folder)).Reload()
    return Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(folder))))


def columns_of(folder):
    """The names of the columns of the page HPARAMS, in its order: it shows five."""
    context = context_of(folder)
    metadata = context.hparams_metadata(RequestContext(), "")
    return [
        info.name for info in context.experiment_from_metadata(RequestContext(), "", True, metadata, []).hparam_infos
    ]


def table(folder):
    """The lines of the page HPARAMS: run -> (hyperparameters, metrics, status)."""
    context = context_of(folder)
    columns = [api_pb2.ColParams(hparam=name) for name in columns_of(folder)]
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=STATUSES, slice_size=100, col_params=columns, include_metrics=True
    )
    return {group.name: line(group) for group in Handler(RequestContext(), context, "", request).run().session_groups}


def line(group):
    (session,) = group.sessions
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}
    metrics = {metric.name.tag: metric.value for metric in session.metric_values}
    return values, metrics, api_pb2.Status.Name(session.status)


def tags_written(folder):
    """How often each tag was written, over all event files."""
    files = sorted(folder.glob("events.out.tfevents.*"))
    return Counter(
        value.tag for file in files for event in EventFileLoader(str(file)).Load() for value in event.summary.value
    )
