"""Time, memory and operations against arithmetic by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dm_env import specs

from drq_sn.cli.config.build import build_agent
from drq_sn.cli.workload import row_config
from drq_sn.envs import make_env
from drq_sn.profiling import profiler
from drq_sn.profiling.profiler import AgentProfiler, count_flops, measure_rendering, peak_memory, seconds_per_call
from drq_sn.report.published import TABLE3, read_table
from drq_sn.training.replay import UniformReplay
from tests.builders import PARAMETER_MEGABYTES

CPU = torch.device("cpu")
MB = 1_000_000
ROUNDING = 2 * 2**20  # CUDA's allocator hands out large blocks in steps of 2 MiB


def test_time_is_the_mean_of_the_calls_alone(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 12.0, 20.0, 23.0])  # between the calls it runs on
    monkeypatch.setattr(profiler.time, "perf_counter", lambda: next(clock))
    numbers = []
    assert seconds_per_call(numbers.append, 3, CPU) == 2.0
    assert numbers == [0, 1, 2]


def test_memory_counts_what_lives_at_one_time_and_not_what_died_before():
    def prepare():
        kept = torch.zeros(MB, dtype=torch.uint8)
        torch.zeros(50 * MB, dtype=torch.uint8)  # gone before the call

        def call(_):
            torch.zeros(3 * MB, dtype=torch.uint8)
            torch.zeros(2 * MB, dtype=torch.uint8)
            return kept

        return call

    assert peak_memory(prepare, CPU) == 4 * MB


def test_memory_that_the_call_leaves_behind_is_counted():
    def prepare():
        heap = []
        return lambda _: heap.append(torch.zeros(MB, dtype=torch.uint8))

    assert peak_memory(prepare, CPU) == profiler.PERIOD * MB


def test_what_was_there_before_is_not_subtracted_when_it_goes():
    older = [torch.zeros(MB, dtype=torch.uint8)]

    def prepare():
        kept = torch.zeros(2 * MB, dtype=torch.uint8)
        older.clear()
        return lambda _: kept

    assert peak_memory(prepare, CPU) == 2 * MB


def test_operations_are_counted_by_hand():
    linear, conv = torch.nn.Linear(7, 5), torch.nn.Conv2d(3, 4, 3)
    forward = 2 * 2 * 7 * 5
    assert count_flops(lambda _: linear(torch.zeros(2, 7))) == profiler.PERIOD * forward
    assert count_flops(lambda _: linear(torch.zeros(2, 7)).sum().backward()) == profiler.PERIOD * (
        forward + 2 * 2 * 7 * 5
    )
    assert count_flops(lambda _: conv(torch.zeros(2, 3, 8, 8))) == profiler.PERIOD * 2 * 2 * 4 * 6 * 6 * 27


def act(agent, obs):
    agent.act(obs, 0, explore=False)  # a first action allocates what later ones reuse
    return lambda _: agent.act(obs, 0, explore=False)


@pytest.fixture(scope="module")
def acting_bytes(request):
    """Head -> bytes in use while DrQ acts on 84x84 frames with one action dimension, at the published size."""
    configure = request.getfixturevalue("published_agent")

    def measure(head):
        obs = np.zeros((9, 84, 84), np.uint8)
        return peak_memory(lambda: act(configure(head), obs), CPU)

    measure("mlp2")  # the process's first convolution keeps some kilobytes for good
    return {head: measure(head) for head in ("mlp2", "mlp4", "modern2", "modern4")}


@pytest.fixture(scope="module")
def published_agent():
    def build(head):
        cfg = row_config(
            "profile", ["agent=drq", "task=synthetic_point", f"head={head}", "normalizer=none", "batch_size=512"]
        )
        env = make_env("synthetic_point")
        env.action_spec = lambda: specs.BoundedArray((1,), np.float32, -1, 1)
        with pytest.MonkeyPatch.context() as monkeypatch:  # the values do not matter, and take long
            monkeypatch.setattr("drq_sn.networks.actor_critic.orthogonal_init_", lambda network: None)
            return build_agent(cfg, env, CPU)

    return build


def test_acting_memory_differs_as_in_the_paper(acting_bytes):
    paper = {head: row["acting_memory_mb"] * MB for head, row in read_table(TABLE3, "head").items()}
    for head, base in (("mlp4", "mlp2"), ("modern2", "mlp2"), ("modern4", "modern2")):
        ours, theirs = acting_bytes[head] - acting_bytes[base], paper[head] - paper[base]
        assert abs(ours - theirs) <= ROUNDING, (head, base, ours, theirs)
    assert acting_bytes["modern4"] - acting_bytes["modern2"] == pytest.approx(134.38 * MB, abs=0.005 * MB)


def test_acting_memory_is_the_parameters_and_less_than_a_megabyte(acting_bytes):
    for head, megabytes in PARAMETER_MEGABYTES.items():
        assert 0 < acting_bytes[head] - megabytes * MB < MB


def profiler_of(build_agent, device):
    """Profiler of a tiny agent on a replay of 20 steps."""
    replay = UniformReplay((9, 24, 24), 2, capacity_steps=100, batch_size=8, n_step=1, gamma=0.99, device=device)
    env = make_env("synthetic_point", image_size=24)
    replay.add(env.reset(), None)
    for _ in range(20):
        replay.add(env.step(np.zeros(2, np.float32)), np.zeros(2, np.float32))
    return AgentProfiler(build_agent, build_agent, replay, np.zeros((9, 24, 24), np.uint8), device)


def test_details_and_samples_of_an_agent(agent_of, tmp_path, monkeypatch):
    monkeypatch.setattr(profiler, "matmul_flops_per_second", lambda _: 1e9)
    agents = []

    def build_agent():
        agents.append(agent_of("agent=drqv2", "head=modern2"))
        return agents[-1]

    measured_agent = profiler_of(build_agent, CPU)
    details = measured_agent.prepare(details=True, trace_path=str(tmp_path / "t.json"))
    weights = sum(p.numel() * 4 for p in agents[-1].networks.parameters())
    assert weights < details["acting_memory"] < details["training_memory"]
    assert set(details["phase_seconds"]) == {
        "sample and transfer", "augment", "encode", "critic", "actor", "target", "power iteration", "other"
    }  # fmt: skip
    assert all(seconds > 0 for phase, seconds in details["phase_seconds"].items() if phase != "other")
    assert (details["batch_size"], details["flops_per_update"] > 0) == (8, True)
    assert (tmp_path / "t.json").stat().st_size > 1000
    num_updates = agents[-1].num_updates
    sample = measured_agent.sample(num_updates=3, num_acts=2)
    assert agents[-1].num_updates - num_updates == profiler.PERIOD + 4  # warmed up, and rounded up to whole periods
    assert sample.pop("matmul_flops_per_second") == 1e9
    assert set(sample) == {"training_seconds", "acting_seconds", "sampling_seconds"}
    assert min(sample.values()) > 0


def test_without_details_only_operations_are_counted(agent_of):
    measured = profiler_of(lambda: agent_of("agent=drqv2", "head=mlp2"), CPU).prepare(details=False)
    assert set(measured) == {"batch_size", "flops_per_update"}


def test_rendering_is_compared_with_the_first_environment():
    def env(level):
        shown = np.full((9, 2, 2), level, np.uint8)
        spec = SimpleNamespace(shape=(1,))
        step = SimpleNamespace(observation=shown)
        return SimpleNamespace(reset=lambda: step, step=lambda action: step, action_spec=lambda: spec)

    measured = measure_rendering({"exact": env(10), "same": env(10), "darker": env(4)}, num_frames=3)
    differences = {name: (values["difference"], values["identical_frames"]) for name, values in measured.items()}
    assert differences == {"exact": (0, 1), "same": (0, 1), "darker": (6, 0)}


@pytest.mark.gpu
def test_cuda_memory_is_counted_by_pytorch():
    device = torch.device("cuda")

    def prepare():
        kept = torch.zeros(32 * MB, dtype=torch.uint8, device=device)

        def call(_):
            torch.zeros(64 * MB, dtype=torch.uint8, device=device)
            return kept

        return call

    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated()
    assert 96 * MB <= peak_memory(prepare, device) - held <= 96 * MB + 3 * ROUNDING


@pytest.mark.gpu
def test_cuda_events_time_every_call():
    a = torch.randn(4096, 4096, device="cuda")
    numbers = []
    seconds = seconds_per_call(lambda i: (numbers.append(i), a @ a), 5, a.device)
    assert numbers == [0, 1, 2, 3, 4]
    assert 2 * 4096**3 / seconds < 5e15  # no machine is that fast: the products were waited for


@pytest.mark.gpu
def test_an_agent_is_measured_on_cuda(configure):
    device = torch.device("cuda")
    env = make_env("synthetic_point", image_size=24)
    measured_agent = profiler_of(lambda: build_agent(configure("agent=drq"), env, device), device)
    details = measured_agent.prepare(details=True)
    assert sum(details["phase_seconds"].values()) > 0
    assert details["training_memory"] > details["acting_memory"] > 0
    assert min(measured_agent.sample(num_updates=3, num_acts=3).values()) > 0
