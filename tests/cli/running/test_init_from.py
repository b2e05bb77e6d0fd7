"""Runs that start from another run's networks."""

from __future__ import annotations

import contextlib
import copy
import json

import pytest
import torch

from drq_sn.cli.config.build import build_agent, build_env
from drq_sn.cli.config.saved import initialize_agent, load_agent
from drq_sn.cli.running.checkpointing import Session
from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped
from drq_sn.networks.normalizers.nap import ProjectedLinear
from drq_sn.networks.normalizers.power_iteration import tracked_layers
from drq_sn.validation import InvalidInput
from tests.cli.running.interruptions import terminate

UNTRAINED = ["num_train_frames=4", "diagnose_states=0", "num_eval_episodes=1"]


@pytest.fixture
def source(finished_run):
    """A finished run of `configure()` in a directory of its own."""
    return finished_run.rename(finished_run.with_name("source"))


def state_of(run_dir):
    return load_agent(run_dir, "cpu").networks.state_dict()


def test_all_networks_are_those_of_the_other_run_and_targets_follow(configure, tmp_path):
    source = tmp_path / "source"
    run(configure("normalizer=spectral", "num_train_frames=160", run_dir="source"))
    run(configure("normalizer=spectral", *UNTRAINED, f"init_from={source}", "seed=2"))
    networks, expected = state_of(tmp_path / "run"), state_of(source)
    online = {name: value for name, value in expected.items() if "_target" not in name}
    assert all(torch.equal(networks[name], value) for name, value in online.items())
    targets = [name for name in expected if name.startswith("critic_target.")]
    assert all(torch.equal(networks[name], expected[name.replace("_target", "", 1)]) for name in targets)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["init_from"] == {"run": str(source), "networks": "all", "frame": 160}
    assert {"name": "init_from", "value": str(source), "published": None} in record["overrides"]


@pytest.mark.parametrize("name", ["drq", "drqv2"])
def test_the_encoder_fits_another_task_agent_and_head(configure, source, name):
    overrides = [f"agent={name}", "head=mlp2", "task=pendulum_swingup"]  # with one action dimension instead of two
    cfg = configure(*overrides, f"init_from={source}", "init_networks=encoder")
    with contextlib.closing(build_env(cfg, seed=0)) as env:
        agent = build_agent(cfg, env, torch.device("cpu"))
    before, random_state = copy.deepcopy(agent.networks.state_dict()), torch.get_rng_state()
    initialize_agent(agent, cfg)
    assert torch.equal(torch.get_rng_state(), random_state)
    expected = state_of(source)
    for key, value in agent.networks.state_dict().items():
        is_encoder = key.startswith("encoder")  # or encoder_target, of DrQ
        assert torch.equal(value, expected[key.replace("_target", "")] if is_encoder else before[key])


def test_projection_keeps_the_norms_of_the_other_run(configure):
    agents = []
    for normalizer in ("none", "nap"):
        cfg = configure("head=modern2", f"normalizer={normalizer}", *["normalizer.layers=[-2]"] * (normalizer == "nap"))
        with contextlib.closing(build_env(cfg, seed=0)) as env:
            agents.append(build_agent(cfg, env, torch.device("cpu")))
    theirs, agent = agents
    with torch.no_grad():
        theirs.actor.head.blocks[0].contract.weight.mul_(3)
    agent.initialize_(theirs.networks, "actor")
    layer = agent.actor.head.blocks[0].contract
    assert isinstance(layer, ProjectedLinear)
    assert torch.equal(layer.initial_norm, theirs.actor.head.blocks[0].contract.weight.norm())


@pytest.mark.parametrize("overrides", [["normalizer.conv_layers=none"], ["env.image_size=32"]])
def test_u_and_v_fit_the_weights_where_they_cannot_be_copied(configure, overrides):
    torch.manual_seed(0)
    agents = []
    for options in (overrides, []):
        cfg = configure("normalizer=spectral", "normalizer.conv_layers=all", *options)
        with contextlib.closing(build_env(cfg, seed=0)) as env:
            agents.append(build_agent(cfg, env, torch.device("cpu")))
    theirs, agent = agents
    for parameter in theirs.encoder.parameters():
        torch.nn.init.normal_(parameter)
    agent.initialize_(theirs.networks, "encoder")
    for layer in tracked_layers(agent.encoder).values():
        sigma = layer.sigma().item()
        layer.power_iterate_(200)
        assert sigma == pytest.approx(layer.sigma().item(), rel=0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head.width=8"], r"actor.head.layers.0.weight is \(16, 50\) there and \(8, 50\) here"),
        (["head=mlp4"], r"the same actor: actor.head.* here"),
        (["agent=drq"], r"the same actor: actor.head.* there"),
        (["agent.num_filters=8", "init_networks=encoder"], r"encoder.convs.0.weight is \(4, 9, 3, 3\) there"),
    ],
)
def test_other_networks_are_refused_in_one_line_before_anything_is_written(
    configure, tmp_path, source, overrides, message
):
    with pytest.raises(InvalidInput, match=message):
        run(configure(*overrides, f"init_from={source}"))
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_no_longer_needs_the_other_one(configure, tmp_path, source, interrupt):
    interrupt(terminate, 45)
    with pytest.raises(Stopped):
        run(configure(f"init_from={source}"))
    source.rename(tmp_path / "gone")
    with pytest.raises(InvalidInput, match=r"init_from was .*, now None"):
        run(configure())
    run(configure(f"init_from={source}"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["init_from"]["frame"]) == ("finished", 400)
    run(configure(f"init_from={source}"))  # says that it has finished
    with pytest.raises(InvalidInput, match="is not a run directory"):
        run(configure(f"init_from={source}", "fresh=true"))
    assert not (tmp_path / "run.1").exists()


def test_optimizers_start_afresh(configure, source, monkeypatch):
    steps = []
    original = Session.save

    def save(self, logger):
        steps.extend(optimizer.state_dict()["state"] for optimizer in self.agent.optimizers.values())
        original(self, logger)

    monkeypatch.setattr(Session, "save", save)
    run(configure(*UNTRAINED, f"init_from={source}", "keep_checkpoint=true"))
    assert steps == [{}, {}, {}]
