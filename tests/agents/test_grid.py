"""Every agent with every head and every normalizer: trains, is saved, and goes on as if it had not been."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir

from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.overrides import group_options
from drq_sn.runs.files import load_safely, to_bytes

pytestmark = pytest.mark.process  # trains many agents

with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
    GROUPS = group_options() | {"agent": ["drq", "drqv2"]}  # test_dqn.py and others have agents without an actor
GROUPS["head"].remove("none")
NUM_UPDATES = 4
SAMPLE = {  # in the default suite: each agent with and without SN, and every head and normalizer once
    ("drq", "mlp2", "none"), ("drq", "modern4", "spectral"), ("drq", "mlp4", "div_out"), ("drq", "d2rl", "mul_eps"),
    ("drqv2", "modern2", "none"), ("drqv2", "mlp_ln", "spectral"), ("drqv2", "simba", "div_grad"),
    ("drqv2", "bronet", "nap"), ("drqv2", "mlp2", "weight_norm"),
}  # fmt: skip
USUAL = ("drqv2", "modern4", "spectral")  # what a choice that is not in the sample is combined with
for position, group in enumerate(("agent", "head", "normalizer")):
    for choice in set(GROUPS[group]) - {names[position] for names in SAMPLE}:
        SAMPLE.add((*USUAL[:position], choice, *USUAL[position + 1 :]))
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


def assert_trains_and_resumes(agent_of, batch, *overrides):
    agent = agent_of(*overrides)
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


def combinations():
    for names in itertools.product(GROUPS["agent"], GROUPS["head"], GROUPS["normalizer"]):
        yield pytest.param(*names, marks=[] if names in SAMPLE else pytest.mark.slow)


def variants():
    """Every variant with both agents; in the default suite the agents alternate."""
    for (i, overrides), (k, agent) in itertools.product(enumerate(VARIANTS), enumerate(GROUPS["agent"])):
        yield pytest.param(agent, overrides, marks=[] if i % 2 == k else pytest.mark.slow)


def test_the_sample_has_every_head_and_normalizer():
    combined = [set(names) for names in zip(*SAMPLE, strict=True)]
    assert combined == [set(GROUPS[group]) for group in ("agent", "head", "normalizer")]


@pytest.mark.parametrize(("agent", "head", "normalizer"), list(combinations()))
def test_every_combination_trains_and_resumes(agent_of, batch, agent, head, normalizer):
    assert_trains_and_resumes(agent_of, batch, f"agent={agent}", f"head={head}", f"normalizer={normalizer}")


@pytest.mark.parametrize(("agent", "overrides"), list(variants()))
def test_variants_train_and_resume(agent_of, batch, agent, overrides):
    assert_trains_and_resumes(agent_of, batch, f"agent={agent}", *overrides.split())
