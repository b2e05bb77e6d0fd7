"""How fast updates, actions, draws from the replay and frames are: repeated figures, each beside what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from drq_sn.profiling.profiler import PERIOD, count_flops, matmul_flops_per_second, seconds_per_call
from drq_sn.types import Agent, Environment, Replay

WARM_CALLS = 10  # enough to compile, or to capture both kinds of DrQ's update
NUM_ACTS = 50
NUM_DRAWS = 10


def measure_learning(
    build_agent: Callable[[], Agent],
    build_eager: Callable[[], Agent],
    replay: Replay,
    obs: np.ndarray,
    device: torch.device,
    num_repeats: int,
    num_updates: int,
) -> dict[str, Any]:
    """Seconds per update, action and draw, again and again, and a matrix product's rate right beside each update.

    Args:
        build_agent: makes the agent that is measured.
        build_eager: makes the same agent without a runtime of its own, whose operations can be counted.
        replay: what batches are drawn from; an update includes its draw.
        obs: (C, H, W) uint8 on the host; an action includes its way to the device and the action's way back.
        device: where the agent lives.
        num_repeats: how often each is measured.
        num_updates: updates per measurement; rounded up to whole periods.
    """
    flops = _count(build_eager(), replay)
    agent = build_agent()
    calls: dict[str, tuple[Callable[[int], object], int]] = {
        "update": (lambda i: agent.update(replay.sample(), i), -(-num_updates // PERIOD) * PERIOD),
        "action": (lambda i: agent.act(obs, 0, explore=False), NUM_ACTS),
        "draw": (lambda i: replay.sample(), NUM_DRAWS),
    }
    for call, _ in calls.values():
        for i in range(WARM_CALLS):
            call(i)
    repeats = []
    for _ in range(num_repeats):
        rate = matmul_flops_per_second(device)
        repeats.append({name: seconds_per_call(call, number, device) for name, (call, number) in calls.items()})
        repeats[-1]["matmul_flops_per_second"] = (rate + matmul_flops_per_second(device)) / 2
    return {"flops_per_update": flops, "repeats": repeats}


def _count(eager: Agent, replay: Replay) -> float:
    return count_flops(lambda i: eager.update(replay.sample(), i)) / PERIOD


def measure_rendering(envs: Mapping[str, Environment], num_frames: int) -> dict[str, dict[str, float]]:
    """Milliseconds per step of environments that differ in how they draw, and how much the frames differ.

    Args:
        envs: name -> the same task with the same seed; the first is what others are compared with. They
            take turns, with the same actions, so that a slow moment meets all of them.
        num_frames: steps.

    Returns:
        For each name the median `ms_per_step`, the mean absolute `difference` of a color value
        (0..255), and the share of `identical_frames`.
    """
    random = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in envs}
    differences: dict[str, list[float]] = {name: [] for name in envs}
    for env in envs.values():
        env.reset()
    for _ in range(num_frames):
        action, exact = random.uniform(-1, 1, next(iter(envs.values())).action_spec().shape), None
        for name, env in envs.items():
            start = time.perf_counter()
            frame = env.step(action).observation[-3:].astype(np.int16)
            seconds[name].append(time.perf_counter() - start)
            exact = frame if exact is None else exact
            differences[name].append(float(np.abs(frame - exact).mean()))
    return {
        name: {
            "ms_per_step": 1e3 * float(np.median(seconds[name])),
            "difference": float(np.mean(differences[name])),
            "identical_frames": float(np.mean(np.array(differences[name]) == 0)),
        }
        for name in envs
    }
