"""Where the time of an update goes: phases, from a trace of PyTorch's profiler."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from drq_sn.agents.base import BaseAgent

Phases = Mapping[str, list[tuple[Any, str]]]
"""Phase -> the callables in which it happens, as (owner, attribute)."""

PHASE = "phase/"
OTHER = "other"
BACKWARD_STEP = "autograd::engine::evaluate_function"
BACKWARD_SCOPE = 1  # torch's RecordScope::BACKWARD_FUNCTION, inside such a step


def update_phases(agent: BaseAgent) -> Phases:
    """The phases of an actor-critic's update."""
    encoders = [network for name, network in agent.networks.items() if name.startswith("encoder")]
    return {
        "augment": [(agent, "augmentation")],
        "encode": [(encoder, "forward") for encoder in encoders] + [(agent.optimizers["encoder"], "step")],
        "critic": [(agent, "update_critic_")],
        "actor": [(agent, "update_actor_")],
        "target": [(agent, "update_targets_")],
        "power iteration": [(agent, "power_iterate_")],
    }


def phase_seconds(
    call: Callable[[], object], phases: Phases, device: torch.device, trace_path: Path | None = None
) -> dict[str, float]:
    """Seconds that `call` spends in each of its phases, from one trace.

    An operation belongs to the innermost phase around it; in the backward pass, to the phase of the
    operation whose gradient it computes. On CUDA the time is that of kernels and copies.

    Args:
        call: what is traced.
        phases: where each phase happens; `other` is the rest.
        device: where `call` computes.
        trace_path: also write the trace there, for TensorBoard or Perfetto (a `.json` or `.json.gz`).
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with labelled(phases), profile(activities=activities) as trace:
        call()
    if trace_path is not None:
        trace.export_chrome_trace(str(trace_path))
    return attribute(list(trace.events() or []), [*phases, OTHER], on_device=device.type == "cuda")


@contextlib.contextmanager
def labelled(phases: Phases) -> Iterator[None]:
    """Let every callable of `phases` run under its phase's name in a trace; afterwards all is as before."""
    with contextlib.ExitStack() as undo:
        for phase, places in phases.items():
            for owner, attribute_name in places:
                inner, own = getattr(owner, attribute_name), vars(owner).get(attribute_name)
                setattr(owner, attribute_name, record_function(PHASE + phase)(inner))
                undo.callback(_restore, owner, attribute_name, own)
        yield


def _restore(owner: Any, attribute_name: str, own: Any) -> None:
    if own is None:
        delattr(owner, attribute_name)  # it was the class's
    else:
        setattr(owner, attribute_name, own)


def attribute(events: list[FunctionEvent], phases: list[str], on_device: bool) -> dict[str, float]:
    """Share the time of a trace's events out among `phases`, in seconds."""
    events = [e for e in events if e.device_type.name == "CPU"]  # each has its kernels' time in it already
    labels = sorted(
        (
            (e.time_range.start, e.time_range.end, e.name.removeprefix(PHASE))
            for e in events
            if e.name.startswith(PHASE)
        ),
        key=lambda label: label[1] - label[0],
    )

    def around(event: FunctionEvent) -> str:
        # by time alone: gradients are computed by another thread while the one with the labels waits
        start, end = event.time_range.start, event.time_range.end
        return next((name for first, last, name in labels if first <= start and end <= last), OTHER)

    operations = [e for e in events if not e.name.startswith(PHASE)]
    forward = {e.sequence_nr: around(e) for e in operations if e.sequence_nr >= 0 and not _is_backward(e)}
    totals: dict[str, float] = defaultdict(float)
    for event in operations:
        seconds = (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6
        node = _backward_node(event)
        totals[forward.get(node.sequence_nr, around(event)) if node else around(event)] += seconds
    return {phase: totals[phase] for phase in phases}


def _is_backward(event: FunctionEvent) -> bool:
    return event.name.startswith(BACKWARD_STEP) or event.scope == BACKWARD_SCOPE


def _backward_node(event: FunctionEvent | None) -> FunctionEvent | None:
    """The step of the backward pass that `event` is part of."""
    while event is not None and not _is_backward(event):
        event = event.cpu_parent
    return event
