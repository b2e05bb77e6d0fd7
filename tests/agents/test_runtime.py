"""Every way to execute an update gives what eager gives: same seed, both agents, with and without SN."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from drq_sn.agents.graphs import CheckedGraphs, Graphed, changes_agree
from drq_sn.agents.runtime import Auto, Compiled, CompiledCudaGraph, CudaGraph, Eager
from drq_sn.cli.config.build import build_agent
from drq_sn.envs import make_env
from drq_sn.networks import encoders
from drq_sn.types import Batch
from drq_sn.validation import InvalidInput
from tests.builders import default_dtype

pytestmark = pytest.mark.process  # trains many agents

NUM_UPDATES = 12
AGENTS = [(agent, norm) for agent in ("drq", "drqv2") for norm in ("none", "spectral")]
FAMILY = [  # what reads or changes more than networks and gradients in an update
    ("drqv2", "div_out"), ("drqv2", "div_grad"), ("drqv2", "nap lr_schedule=linear"),
    ("drq", "mul_eps lr_schedule=cosine"),
]  # fmt: skip
SAMPLE = {("drq", "spectral"), ("drqv2", "none"), *FAMILY[2:]}  # in the default suite


def sampled(choices):
    return [pytest.param(*choice, marks=[] if choice in SAMPLE else pytest.mark.slow) for choice in choices]


PUBLISHED_SIZE = ["env.image_size=84", "agent.num_filters=32", "head.width=1024"]
TORCHS_OWN = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


class FakeRecorder:
    """Behaves like a CUDA graph on a CPU: nothing happens at the capture, all results land in the same tensors."""

    def __init__(self):
        self.num_eager = self.num_recorded = self.num_replayed = 0

    def run_eagerly(self, call):
        self.num_eager += 1
        self.last = call()
        return self.last

    def record(self, call):
        self.num_recorded += 1
        result = torch.empty_like(self.last) if isinstance(self.last, torch.Tensor) else {}

        def replay():
            self.num_replayed += 1
            value = call()
            if isinstance(value, torch.Tensor):
                result.copy_(value)
            else:
                for name, tensor in value.items():
                    result.setdefault(name, torch.empty_like(tensor)).copy_(tensor)

        return replay, result

    def random_state(self):
        return torch.get_rng_state()

    def set_random_state(self, state):
        torch.set_rng_state(state)


class StaleRecorder(FakeRecorder):
    """A graph whose replays compute nothing anew, as if it read other tensors than the function's."""

    def record(self, call):
        result = copy.deepcopy(self.last)
        return lambda: None, result


class FailingRecorder(FakeRecorder):
    """A device that cannot capture."""

    def record(self, call):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def batches(device="cpu", dtype=torch.float32, size=24, batch_size=20):
    """Endless random transitions, the same ones for every caller."""
    generator = torch.Generator().manual_seed(3)
    while True:
        obs, next_obs = torch.randint(0, 256, (2, batch_size, 9, size, size), dtype=torch.uint8, generator=generator)
        action = torch.rand(batch_size, 2, generator=generator) * 2 - 1
        reward, discount = torch.rand(2, batch_size, generator=generator)
        batch = obs, action.to(dtype), reward.to(dtype), discount.to(dtype), next_obs
        yield Batch(*(field.to(device) for field in batch))


@pytest.fixture
def train(configure):
    """`train(runtime, "agent=drq", ...)` -> (every metric of every update, weights and optimizer state)."""

    def run(runtime, *overrides, device="cpu", dtype=torch.float32):
        cfg = configure(*overrides)
        torch.manual_seed(0)
        with default_dtype(dtype):
            env = make_env("synthetic_point", image_size=cfg.env.image_size)
            agent = build_agent(cfg, env, torch.device(device))
            if runtime is not None:
                agent.set_runtime(runtime)
            drawn = batches(device, dtype, cfg.env.image_size)
            metrics = [agent.update(next(drawn), step) for step in range(NUM_UPDATES)]
        return metrics, agent.state_dict()

    return run


def assert_equal(ours, theirs, **tolerance):
    torch.testing.assert_close(ours, theirs, **tolerance)


class Graphs:
    """The runtime `cuda_graph`, with a stand-in for CUDA."""

    def __init__(self):
        self.recorders = []

    def __call__(self, function, device, tensors):
        self.recorders.append(FakeRecorder())
        return Graphed(function, 3, self.recorders[-1])


class CheckedGraphsOnCpu:
    """The runtime `auto`, with a stand-in for CUDA.

    Args:
        recorder: class of the stand-in.
    """

    def __init__(self, recorder=FakeRecorder):
        self.recorder, self.recorders = recorder, []

    def __call__(self, function, device, tensors):
        self.recorders.append(self.recorder())
        return CheckedGraphs(function, 3, self.recorders[-1], tensors, num_checks=2)


@pytest.mark.parametrize(("agent", "norm"), sampled([*AGENTS, *FAMILY]))
def test_graphs_lose_no_update_and_keep_no_result(train, agent, norm):
    overrides = f"agent={agent}", *f"normalizer={norm}".split()
    graphs = Graphs()
    assert_equal(train(graphs, *overrides), train(None, *overrides), rtol=0, atol=0)
    learn, _ = graphs.recorders
    variants = 2 if agent == "drq" else 1  # DrQ with and without its actor
    assert (learn.num_eager, learn.num_recorded) == (3 * variants, variants)
    assert learn.num_replayed == NUM_UPDATES - 3 * variants


@pytest.mark.parametrize("agent", ["drq", "drqv2"])
def test_checked_graphs_take_over_when_they_equal_eager_updates(train, agent):
    graphs, overrides = CheckedGraphsOnCpu(), (f"agent={agent}", "normalizer=spectral")
    assert_equal(train(graphs, *overrides), train(None, *overrides), rtol=0, atol=0)
    variants = 2 if agent == "drq" else 1
    learn, _ = graphs.recorders
    assert (learn.num_eager, learn.num_recorded) == ((3 + 2) * variants, variants)
    assert learn.num_replayed == NUM_UPDATES - 3 * variants


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (StaleRecorder, "the CUDA graph gives other results than eager calls; running eagerly"),
        (FailingRecorder, r"cannot be captured \(operation not permitted when stream is capturing\); running eagerly"),
    ],
)
def test_a_wrong_graph_is_replaced_by_eager_updates_with_one_warning(train, recorder, reason):
    with pytest.warns(UserWarning, match=reason) as warned:
        ours = train(CheckedGraphsOnCpu(recorder), "head=mlp2")
    assert len(warned) == 1
    assert_equal(ours, train(None, "head=mlp2"), rtol=0, atol=0)


@pytest.mark.parametrize("wrong", ["state", "result"])
def test_a_check_compares_the_state_and_the_result(wrong):
    state = torch.zeros(())

    class Wrong(FakeRecorder):
        def record(self, call):
            replay, result = super().record(call)
            return lambda: (replay(), (state if wrong == "state" else result).add_(1.0)), result

    checked = CheckedGraphs(lambda: state.add_(1.0).clone(), 1, Wrong(), lambda: [state], num_checks=1)
    checked()
    with pytest.warns(UserWarning, match="gives other results"):
        assert float(checked()) == 2


def test_changes_agree_up_to_rounding():
    torch.manual_seed(0)
    before = torch.randn(1000)
    after = before + 1e-4 * torch.randn(1000)
    assert changes_agree(after + 1e-7 * torch.randn(1000), after, before)
    assert changes_agree(before, before, before)
    assert not changes_agree(before, after, before)  # nothing happened
    assert not changes_agree(2 * after - before, after, before)  # twice
    assert not changes_agree(torch.full((), False), torch.full((), True), torch.full((), True))


def test_auto_is_eager_without_a_gpu_or_with_random_numbers_of_the_host(agent_of):
    agent = agent_of("runtime=auto", "augmentation=rotation")
    assert isinstance(agent._runtime, Eager)
    agent = agent_of("runtime=auto")
    assert agent._learn == agent.learn


@pytest.mark.parametrize(("name", "graphs"), [
    ("agent=drq", Graphs()), ("agent=drqv2", Graphs()), ("agent=drqv2", CheckedGraphsOnCpu()),
])  # fmt: skip
def test_acting_through_graphs_is_acting(agent_of, name, graphs):
    agents = agent_of(name), agent_of(name)
    agents[1].set_runtime(graphs)
    observations = [torch.randint(0, 256, (9, 24, 24), dtype=torch.uint8).numpy() for _ in range(12)]
    actions = []
    for agent in agents:
        torch.manual_seed(1)
        actions.append([agent.act(obs, step, explore=step % 3 > 0) for step, obs in enumerate(observations)])
    for ours, theirs in zip(*actions, strict=True):
        assert np.array_equal(ours, theirs)
    assert graphs.recorders[1].num_replayed == 12 - 2 * 3


def test_a_checkpoint_of_another_device_keeps_this_ones_optimizers(agent_of):
    agent = agent_of("agent=drq")
    state = copy.deepcopy(agent.state_dict())
    for optimizer in state["optimizers"].values():
        optimizer["param_groups"][0]["capturable"] = True  # as saved on a GPU
    agent.load_state_dict(state)
    assert not any(group["capturable"] for o in agent.optimizers.values() for group in o.param_groups)


def test_what_draws_on_the_host_is_not_captured(agent_of):
    with pytest.raises(InvalidInput, match="draws on the host, which a CUDA graph cannot"):
        agent_of("runtime=cuda_graph", "augmentation=rotation")


def test_what_differentiates_twice_is_not_compiled(agent_of):
    with pytest.raises(InvalidInput, match=r"differentiates twice, which torch\.compile cannot"):
        agent_of("runtime=compile", "penalty=gradient")


def test_mul_eps_is_not_compiled(agent_of):
    with pytest.raises(InvalidInput, match=r"gives other results with torch\.compile; use runtime=eager"):
        agent_of("runtime=compile", "normalizer=mul_eps")


@TORCHS_OWN
@pytest.mark.parametrize(
    ("agent", "norm"),
    [
        pytest.param("drq", "spectral", marks=pytest.mark.slow),
        pytest.param("drqv2", "nap", marks=pytest.mark.slow),
        pytest.param("drq", "none", marks=pytest.mark.slow),
        pytest.param("drqv2", "none", marks=pytest.mark.slow),
        pytest.param("drqv2", "spectral", marks=pytest.mark.slow),
    ],
)
def test_compiled_updates_equal_eager_ones(train, agent, norm):
    overrides = f"agent={agent}", f"normalizer={norm}", "head=mlp2"
    exact = {"rtol": 1e-8, "atol": 1e-9}
    assert_equal(
        train(Compiled(), *overrides, dtype=torch.float64), train(None, *overrides, dtype=torch.float64), **exact
    )


@TORCHS_OWN
@pytest.mark.slow
@pytest.mark.parametrize("agent", ["drq", "drqv2"])
def test_compiled_and_captured_updates_equal_eager_ones(train, agent):
    """Compiled functions do what a capture needs: every replay computes anew from the same inputs."""

    def runtime(function, device, tensors):
        return Graphed(Compiled()(function, device, tensors), 3, FakeRecorder())

    overrides = f"agent={agent}", "head=mlp2"
    exact = {"rtol": 1e-8, "atol": 1e-9}
    assert_equal(train(runtime, *overrides, dtype=torch.float64), train(None, *overrides, dtype=torch.float64), **exact)


@pytest.mark.parametrize(("agent", "norm"), sampled(AGENTS))
def test_micro_batches_equal_the_whole_batch(train, monkeypatch, agent, norm):
    overrides = f"agent={agent}", f"normalizer={norm}"
    results = []
    for size in (10**9, 3):
        monkeypatch.setattr(encoders, "CPU_MICRO_BATCH", size)
        results.append(train(None, *overrides, dtype=torch.float64))
    assert_equal(*results, rtol=1e-8, atol=1e-9)


def test_a_capture_after_load_state_dict_starts_anew(agent_of):
    agent = agent_of("agent=drqv2")
    graphs = Graphs()
    agent.set_runtime(graphs)
    agent.load_state_dict(copy.deepcopy(agent.state_dict()))
    assert len(graphs.recorders) == 4


def test_each_shape_is_captured_apart():
    recorder = FakeRecorder()
    double = Graphed(lambda x, negative: {"y": -2 * x.sum() if negative else 2 * x.sum()}, 1, recorder)
    for _ in range(3):
        assert float(double(torch.ones(3), negative=False)["y"]) == 6
        assert float(double(torch.ones(4), negative=True)["y"]) == -8
    assert recorder.num_recorded == 2


def test_what_a_machine_cannot_do_is_said_in_one_line(monkeypatch):
    for runtime in (CudaGraph(), CompiledCudaGraph()):
        with pytest.raises(InvalidInput, match="runtime: CUDA graphs need a CUDA device, got cpu; use runtime=eager"):
            runtime(dict, torch.device("cpu"), list)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InvalidInput, match=r"no C\+\+ compiler found"):
        Compiled()(dict, torch.device("cpu"), list)


@pytest.mark.gpu
@TORCHS_OWN
@pytest.mark.parametrize("size", [[], PUBLISHED_SIZE], ids=["tiny", "published"])
@pytest.mark.parametrize(("agent", "norm"), [*AGENTS, *FAMILY])
@pytest.mark.parametrize(
    "runtime",
    [CudaGraph(), Compiled(), CompiledCudaGraph(), Auto()],
    ids=["cuda_graph", "compile", "compile_cuda_graph", "auto"],
)
def test_every_runtime_equals_eager_on_cuda(train, runtime, agent, norm, size):
    """In float64, where rounding does not grow; the random stream is the same too."""
    overrides = f"agent={agent}", *f"normalizer={norm}".split(), *size
    double = {"device": "cuda", "dtype": torch.float64}
    assert_equal(train(runtime, *overrides, **double), train(None, *overrides, **double), rtol=1e-7, atol=1e-8)


@pytest.mark.gpu
@pytest.mark.parametrize("agent", ["agent=drq", "agent=drqv2"])
def test_auto_finds_its_graphs_right_on_cuda(agent_of, agent):
    """In float32, as runs are; a fallback would warn, which is an error in tests."""
    learner = agent_of(agent, "runtime=auto", device="cuda")
    drawn = batches("cuda")
    for step in range(NUM_UPDATES):
        learner.update(next(drawn), step)
        learner.act(torch.zeros(9, 24, 24, dtype=torch.uint8), step, explore=True)
    assert learner._learn._graphs
    assert learner._act._graphs


@pytest.mark.gpu
def test_a_cpu_checkpoint_is_trained_further_in_graphs(agent_of):
    saved = agent_of("agent=drq")
    drawn = batches()
    for step in range(4):
        saved.update(next(drawn), step)
    agent = agent_of("agent=drq", "runtime=cuda_graph", device="cuda")
    agent.load_state_dict(saved.state_dict())
    drawn = batches("cuda")
    for step in range(12):
        agent.update(next(drawn), step)
    assert agent.is_finite()


@pytest.mark.gpu
def test_acting_through_a_graph_equals_eager_acting(agent_of):
    obs = [torch.randint(0, 256, (9, 24, 24), dtype=torch.uint8) for _ in range(8)]
    actions = []
    for runtime in (None, CudaGraph()):
        agent = agent_of("agent=drqv2", device="cuda")
        if runtime is not None:
            agent.set_runtime(runtime)
        actions.append(torch.tensor([agent.act(o, step, explore=step % 2 == 0).tolist() for step, o in enumerate(obs)]))
    torch.testing.assert_close(*actions)
