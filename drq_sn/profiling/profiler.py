"""Cost of updates, actions and rendering: time, memory, operations and phases (Bjorck et al. 2021, section 5.4)."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from drq_sn.agents.base import BaseAgent
from drq_sn.profiling.phases import phase_seconds, update_phases
from drq_sn.types import Agent, Environment, Replay

Call = Callable[[int], object]
"""What is measured; its argument is the number of the call."""

MEASURED_CALLS = "measured calls"
NUM_MATMULS = 3
NUM_SAMPLED_BATCHES = 10
PERIOD = 2  # calls after which an agent has done everything it does: DrQ updates its actor every second time
FIRST_WARM_CALLS = 4 * PERIOD  # enough to compile, and to capture both graphs of DrQ's update


def seconds_per_call(call: Call, num_calls: int, device: torch.device) -> float:
    """Mean duration of `call(0)`, ..., `call(num_calls - 1)`, without the time between calls.

    CUDA events on a GPU, the monotonic clock elsewhere.
    """
    if device.type != "cuda":
        total = 0.0
        for i in range(num_calls):
            start = time.perf_counter()
            call(i)
            total += time.perf_counter() - start
        return total / num_calls
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(num_calls)]  # type: ignore[no-untyped-call]  # PyTorch has no annotations there
    for i, (before, after) in enumerate(events):
        before.record()
        call(i)
        after.record()
    torch.cuda.synchronize(device)
    return float(sum(before.elapsed_time(after) for before, after in events)) / num_calls / 1e3


def peak_memory(prepare: Callable[[], Call], device: torch.device) -> int:
    """Largest number of bytes allocated at one time in `PERIOD` calls, including what their preparation left.

    On CUDA PyTorch's counter, with blocks rounded up by its allocator and with cuBLAS's workspace; on the CPU live
    tensors, from PyTorch's own record of allocations.

    Args:
        prepare: builds everything whose memory counts, and returns the call. Earlier allocations are
            excluded on the CPU; on CUDA all allocations of this process count.
        device: where the call computes.
    """
    return _cuda_peak(prepare(), device) if device.type == "cuda" else _cpu_peak(prepare)


def _cuda_peak(call: Call, device: torch.device) -> int:
    gc.collect()  # reference cycles of an earlier measurement
    torch.cuda.reset_peak_memory_stats(device)
    _one_period(call)
    return torch.cuda.max_memory_allocated(device)


def _cpu_peak(prepare: Callable[[], Call]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call = prepare()
        with record_function(MEASURED_CALLS):
            _one_period(call)
    events = _exported_events(trace)
    measured = next(e for e in events if e.get("name") == MEASURED_CALLS and e.get("ph") == "X")
    start, end = measured["ts"], measured["ts"] + measured["dur"]
    sizes: dict[int, int] = {}  # by address; memory allocated before the trace is not in it when it is freed
    live = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: float(e["ts"])):
        if event["ts"] > start:
            peak = max(peak, live)
        if event["ts"] > end:
            break
        address, num_bytes = event["args"]["Addr"], event["args"]["Bytes"]
        if num_bytes > 0:
            sizes[address] = num_bytes
            live += num_bytes
        else:
            live -= sizes.pop(address, 0)
    return max(peak, live)


def _exported_events(trace: profile) -> list[dict[str, Any]]:
    """All events of a trace, allocations included, in the public format of its export."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        return list(json.loads(path.read_text())["traceEvents"])


def count_flops(call: Call) -> int:
    """Operations of the matrix products and convolutions in `PERIOD` calls, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        _one_period(call)
    return int(counter.get_total_flops())


def matmul_flops_per_second(device: torch.device) -> float:
    """Median rate of one large float32 matrix product on `device`, under the current precision settings."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    seconds_per_call(lambda _: a @ b, 1, device)
    return 2 * size**3 / float(np.median([seconds_per_call(lambda _: a @ b, 1, device) for _ in range(NUM_MATMULS)]))


class AgentProfiler:
    """Measures one agent; an update includes sampling its batch, an action its copies to and from the device.

    Args:
        build_agent: builds the agent, in the runtime that is measured.
        build_eager_agent: builds the same agent in the eager runtime, whose operations can be counted and traced.
        replay: batches are sampled from it.
        obs: (C, H, W) uint8 on the host, the observation acted on.
        device: where the agent lives.
    """

    def __init__(
        self,
        build_agent: Callable[[], Agent],
        build_eager_agent: Callable[[], BaseAgent],
        replay: Replay,
        obs: np.ndarray,
        device: torch.device,
    ) -> None:
        self._build_agent, self._build_eager_agent = build_agent, build_eager_agent
        self._replay, self._obs, self._device = replay, obs, device
        self._agent: Agent | None = None

    def prepare(self, details: bool, trace_path: str | None = None) -> dict[str, Any]:
        """Measure what is the same in every round, then build and warm up the agent of the samples.

        Args:
            details: also measure memory and phases, in a process that has not measured anything yet.
            trace_path: also write a trace of one period of updates there.
        """
        measured: dict[str, Any] = {"batch_size": len(self._replay.sample().reward)}
        if details:
            measured["acting_memory"] = peak_memory(lambda: self._acting(self._build_agent()), self._device)
            measured["training_memory"] = peak_memory(lambda: self._updating(self._build_agent()), self._device)
        eager_agent = self._build_eager_agent()
        update = self._updating(eager_agent)
        measured["flops_per_update"] = count_flops(update) / PERIOD
        if details:
            phases = {"sample and transfer": [(self._replay, "sample")], **update_phases(eager_agent)}
            path = Path(trace_path) if trace_path else None
            seconds = phase_seconds(lambda: _one_period(update), phases, self._device, path)
            measured["phase_seconds"] = {phase: value / PERIOD for phase, value in seconds.items()}
        self._agent = self._build_agent()
        self._acting(self._agent, FIRST_WARM_CALLS)
        self._updating(self._agent, FIRST_WARM_CALLS)
        return measured

    def sample(self, num_updates: int, num_acts: int) -> dict[str, float]:
        """Seconds per update, action and batch, and the rate of a matrix product before and after; see `prepare`.

        Args:
            num_updates: timed updates, rounded up to whole periods.
            num_acts: timed actions.
        """
        if self._agent is None:
            raise RuntimeError("call prepare first")
        num_updates = -(-num_updates // PERIOD) * PERIOD
        rate_before = matmul_flops_per_second(self._device)
        return {
            "training_seconds": seconds_per_call(self._updating(self._agent), num_updates, self._device),
            "acting_seconds": seconds_per_call(self._acting(self._agent), num_acts, self._device),
            "sampling_seconds": seconds_per_call(lambda _: self._replay.sample(), NUM_SAMPLED_BATCHES, self._device),
            "matmul_flops_per_second": (rate_before + matmul_flops_per_second(self._device)) / 2,
        }

    def _acting(self, agent: Agent, num_warm_calls: int = PERIOD) -> Call:
        return _warmed(lambda _: agent.act(self._obs, 0, explore=False), num_warm_calls)

    def _updating(self, agent: Agent, num_warm_calls: int = PERIOD) -> Call:
        return _warmed(lambda i: agent.update(self._replay.sample(), i), num_warm_calls)


def _warmed(call: Call, num_calls: int) -> Call:
    for i in range(num_calls):
        call(i)
    return call


def _one_period(call: Call) -> None:
    for i in range(PERIOD):
        call(i)


def measure_rendering(envs: Mapping[str, Environment], num_frames: int) -> dict[str, dict[str, float]]:
    """Time per step of environments with different render settings, and how much their frames differ.

    Args:
        envs: name -> the same task with the same seed; the others are compared with the first. They take
            turns, with the same actions.
        num_frames: steps.

    Returns:
        For each name the median `ms_per_step`, the mean absolute `difference` of a color value
        (0..255), and the fraction of `identical_frames`.
    """
    random = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in envs}
    differences: dict[str, list[float]] = {name: [] for name in envs}
    for env in envs.values():
        env.reset()
    for _ in range(num_frames):
        action, reference = random.uniform(-1, 1, next(iter(envs.values())).action_spec().shape), None
        for name, env in envs.items():
            start = time.perf_counter()
            frame = env.step(action).observation[-3:].astype(np.int16)
            seconds[name].append(time.perf_counter() - start)
            reference = frame if reference is None else reference
            differences[name].append(float(np.abs(frame - reference).mean()))
    return {
        name: {
            "ms_per_step": 1e3 * float(np.median(seconds[name])),
            "difference": float(np.mean(differences[name])),
            "identical_frames": float(np.mean(np.array(differences[name]) == 0)),
        }
        for name in envs
    }
