"""What learning and acting cost: time, memory, floating-point operations, phases (Bjorck et al. 2021, 5.4)."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.profiling.phases import phase_seconds, update_phases
from drq_sn.types import Agent, Replay

Call = Callable[[int], object]
"""Something to measure; gets the number of the call."""

WINDOW = "window"
NUM_MATMULS = 7
WARM_CALLS = 2
PERIOD = 2  # calls after which an agent has done everything it does: DrQ's actor learns every second time


def seconds_per_call(call: Call, num_calls: int, device: torch.device) -> float:
    """Mean duration of `call(0)`, ..., `call(num_calls - 1)`: CUDA events on a GPU, the monotonic clock elsewhere.

    Args:
        call: what is timed.
        num_calls: how often.
        device: where `call` computes.

    Returns:
        Seconds per call, with the time between calls left out.
    """
    if device.type != "cuda":
        total = 0.0
        for i in range(num_calls):
            start = time.perf_counter()
            call(i)
            total += time.perf_counter() - start
        return total / num_calls
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(num_calls)]
    for i, (before, after) in enumerate(pairs):
        before.record()
        call(i)
        after.record()
    torch.cuda.synchronize(device)
    return sum(before.elapsed_time(after) for before, after in pairs) / num_calls / 1e3


class Memory(NamedTuple):
    """Largest number of bytes held at one time.

    Attributes:
        allocated_bytes: CUDA: PyTorch's counter, blocks rounded up by its allocator, with cuBLAS's
            workspace. CPU: live tensors, counted from PyTorch's own record of allocations.
        requested_bytes: the same without the allocator's rounding; on the CPU nothing is rounded.
        workspace_bytes: cuBLAS's share of `allocated_bytes`; 0 on the CPU.
    """

    allocated_bytes: int
    requested_bytes: int
    workspace_bytes: int


def peak_memory(prepare: Callable[[], Call], device: torch.device) -> Memory:
    """Most memory in use while a prepared call runs, counting what its preparation left behind.

    Args:
        prepare: builds everything whose memory counts, and returns the call. What exists before it
            runs is not counted on the CPU; on CUDA all that this process holds there is.
        device: where it computes.
    """
    return _cuda_peak(prepare(), device) if device.type == "cuda" else _cpu_peak(prepare)


def _cuda_peak(call: Call, device: torch.device) -> Memory:
    gc.collect()  # what an earlier measurement left in cycles
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    _period(call)
    torch.cuda.synchronize(device)
    statistics = torch.cuda.memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    torch._C._cuda_clearCublasWorkspaces()
    workspace = before - torch.cuda.memory_allocated(device)
    return Memory(statistics["allocated_bytes.all.peak"], statistics["requested_bytes.all.peak"], workspace)


def _cpu_peak(prepare: Callable[[], Call]) -> Memory:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call = prepare()
        with record_function(WINDOW):
            _period(call)
    events = _raw_events(trace)
    window = next(e for e in events if e.get("name") == WINDOW and e.get("ph") == "X")
    start, end = window["ts"], window["ts"] + window["dur"]
    held: dict[int, int] = {}  # address -> bytes; what was there before the trace is not ours to subtract
    live = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        if event["ts"] > start:
            peak = max(peak, live)
        if event["ts"] > end:
            break
        address, num_bytes = event["args"]["Addr"], event["args"]["Bytes"]
        if num_bytes > 0:
            held[address] = num_bytes
            live += num_bytes
        else:
            live -= held.pop(address, 0)
    peak = max(peak, live)
    return Memory(peak, peak, 0)


def _raw_events(trace: profile) -> list[dict[str, Any]]:
    """Everything in a trace, allocations included, in the public format of its export."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        return json.loads(path.read_text())["traceEvents"]


def count_flops(call: Call) -> int:
    """Operations of the matrix products and convolutions in `PERIOD` calls, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        _period(call)
    return counter.get_total_flops()


def matmul_flops_per_second(device: torch.device) -> float:
    """What `device` reaches in one large float32 matrix product, under the present precision settings: the median of several."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    seconds_per_call(lambda _: a @ b, 2, device)
    seconds = sorted(seconds_per_call(lambda _: a @ b, 1, device) for _ in range(NUM_MATMULS))
    return 2 * size**3 / seconds[NUM_MATMULS // 2]


def measure_agent(
    build_agent: Callable[[], ActorCriticAgent],
    replay: Replay,
    obs: torch.Tensor,
    device: torch.device,
    num_updates: int,
    num_acts: int,
    details: bool,
    trace_path: Path | None = None,
) -> dict[str, Any]:
    """Cost of one agent; an update includes drawing its batch, acting includes the action's way to the host.

    Args:
        build_agent: makes a fresh agent.
        replay: what batches are drawn from.
        obs: (C, H, W) uint8, the observation acted on, on `device`.
        device: where the agent lives.
        num_updates: timed updates.
        num_acts: timed actions.
        details: measure memory, operations and phases too, which are the same in every run.
        trace_path: where to leave a trace of the updates, if anywhere.
    """
    measured: dict[str, Any] = {}
    if details:  # first: on CUDA nothing else must be held by then
        measured["acting_memory"] = peak_memory(lambda: warm_acting(build_agent(), obs), device)._asdict()
        measured["training_memory"] = peak_memory(lambda: warm_learning(build_agent(), replay), device)._asdict()
    agent = build_agent()
    measured["acting_seconds"] = seconds_per_call(warm_acting(agent, obs), num_acts, device)
    learn = warm_learning(agent, replay)
    measured["training_seconds"] = seconds_per_call(learn, num_updates, device)
    measured["matmul_flops_per_second"] = matmul_flops_per_second(device)
    if details:
        measured["flops_per_update"] = count_flops(learn) / PERIOD
        phases = {"sample and transfer": [(replay, "sample")], **update_phases(agent)}
        seconds = phase_seconds(lambda: _period(learn), phases, device, trace_path)
        measured["phase_seconds"] = {phase: value / PERIOD for phase, value in seconds.items()}
    return measured


def warm_acting(agent: Agent, obs: torch.Tensor) -> Call:
    """One action of the deterministic policy, after a few that do not count."""
    return _warmed(lambda _: agent.act(obs, 0, explore=False))


def warm_learning(agent: Agent, replay: Replay) -> Call:
    """Update number i on a fresh batch, after a few that do not count."""
    return _warmed(lambda i: agent.update(replay.sample(), i))


def _warmed(call: Call) -> Call:
    for i in range(WARM_CALLS):
        call(i)
    return call


def _period(call: Call) -> None:
    for i in range(PERIOD):
        call(i)
