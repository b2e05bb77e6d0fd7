"""The estimate of a run's memory."""

from __future__ import annotations

import torch

from drq_sn.cli import train
from drq_sn.cli.config.build import build_agent, build_env, build_replay
from drq_sn.cli.running import memory
from drq_sn.cli.running.memory import memory_parts
from drq_sn.runs.files import to_bytes
from tests.builders import TINY, invoke, random_batch

CPU = torch.device("cpu")


def test_the_parts_are_what_a_run_allocates(configure):
    cfg = configure("agent=drq", "head=modern4", "normalizer=spectral", "head.width=256")
    env = build_env(cfg)
    parts = memory_parts(cfg, env, CPU)
    agent, replay = build_agent(cfg, env, CPU), build_replay(cfg, env, CPU)
    assert parts["replay"] == replay.num_bytes
    for step in range(2):
        agent.update(random_batch(cfg.batch_size), step)
    tensors = {*agent.networks.parameters(), *agent.networks.buffers()}
    for optimizer in agent.optimizers.values():
        parameters = optimizer.param_groups[0]["params"]
        tensors |= {p.grad for p in parameters} | {s for state in optimizer.state.values() for s in state.values()}
    allocated = sum(tensor.numel() * tensor.element_size() for tensor in tensors - {None})
    assert abs(allocated / parts["networks and optimizers"] - 1) < 0.02  # Adam also counts its steps
    copy = len(to_bytes(agent.state_dict())) + 2 * replay.num_bytes
    assert abs(copy / parts["a checkpoint's copy"] - 1) < 0.1  # the file has names and offsets too


def test_a_run_that_cannot_fit_is_refused_with_its_parts_before_anything_is_written(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 10**6)
    result = invoke(train.main, *TINY, "device=cpu", f"run_dir={tmp_path / 'run'}")
    assert result.returncode == 2
    assert "the run needs at least" in result.stderr
    assert "replay 0.00" in result.stderr
    assert "reduce replay.capacity_steps, batch_size or head.width" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_large_batch_is_refused_before_it_is_allocated(configure):
    cfg = configure("batch_size=10000000000", "head.width=1000000")
    parts = memory_parts(cfg, build_env(cfg), CPU)
    assert parts["batches"] > 1e13
    assert parts["networks and optimizers"] > 1e10


def test_on_an_accelerator_only_copies_are_on_the_host(configure):
    cuda = torch.device("cuda")
    cfg = configure()
    assert set(memory_parts(cfg, build_env(cfg), cuda)) == {"a checkpoint's copy"}
    cfg.replay.storage = "host"
    assert set(memory_parts(cfg, build_env(cfg), cuda)) == {"a checkpoint's copy", "replay"}
