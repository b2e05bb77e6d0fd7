"""Every agent with every head and every normalizer: trains, is saved, and goes on as if it had not been."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir

from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.overrides import group_options
from drq_sn.runs.files import load_safely, to_bytes

with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
    GROUPS = group_options()
NUM_UPDATES = 20
VARIANTS = [
    "normalizer=spectral normalizer.networks=[critic]",
    "normalizer=spectral normalizer.networks=[actor]",
    "normalizer=spectral normalizer.layers=all normalizer.conv_layers=all normalizer.trunk=true",
    "normalizer=spectral normalizer.layers=[-2] normalizer.minimum_sigma=1.5 normalizer.num_iterations=3",
    "normalizer=div_out normalizer.layers=all normalizer.minimum_sigma=1.0",
    "normalizer=nap lr_schedule=linear",
    "normalizer=nap lr_schedule=cosine",
    "normalizer=none penalty=gradient",
    "normalizer=spectral penalty=gradient",
    "head.pnorm=true",
    "agent.adam_eps=1e-3",
]


def assert_trains_and_resumes(agent_of, batch, *words):
    agent = agent_of(*words)
    other = copy.deepcopy(agent)
    for step in range(NUM_UPDATES):
        metrics = agent.update(batch, step)
        assert all(bool(torch.isfinite(value)) for value in metrics.values()), (step, metrics)
    assert agent.is_finite()
    start = other.networks.state_dict()
    frozen = [name for name, p in agent.networks.named_parameters() if torch.equal(p, start[name])]
    assert not frozen
    other.load_state_dict(load_safely(Path("checkpoint"), to_bytes(agent.state_dict()).tobytes()))
    for each in (agent, other):
        torch.manual_seed(7)
        each.update(batch, NUM_UPDATES)
    ours, theirs = agent.state_dict(), other.state_dict()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("normalizer", GROUPS["normalizer"])
@pytest.mark.parametrize("head", GROUPS["head"])
@pytest.mark.parametrize("agent", GROUPS["agent"])
def test_every_combination_trains_and_resumes(agent_of, batch, agent, head, normalizer):
    assert_trains_and_resumes(agent_of, batch, f"agent={agent}", f"head={head}", f"normalizer={normalizer}")


@pytest.mark.parametrize("words", VARIANTS)
@pytest.mark.parametrize("agent", GROUPS["agent"])
def test_variants_train_and_resume(agent_of, batch, agent, words):
    assert_trains_and_resumes(agent_of, batch, f"agent={agent}", *words.split())
