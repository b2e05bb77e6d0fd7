"""Runs of DQN and C51 on MinAtar, or on a game with its interface where it is not installed."""

from __future__ import annotations

import json
import sys

import pytest
import torch
import torch.nn.functional as F
import yaml
from omegaconf import OmegaConf

import drq_sn
from drq_sn.cli.config.build import config_dir
from drq_sn.cli.running.run import run
from drq_sn.validation import InvalidInput
from tests.builders import read_csv, run_config, training_result
from tests.cli.running.interruptions import kill, run_until_finished
from tests.games import IS_INSTALLED, use_stand_in

SMALL = [
    "task=minatar_breakout",
    "num_train_frames=400",
    "eval_every_frames=150",
    "num_eval_episodes=3",
    "diagnose_states=16",
    "num_random_steps=50",
    "batch_size=8",
    "agent.q_network.channels=[4,4]",
    "agent.q_network.hidden=16",
    "agent.epsilon_schedule.start_step=50",
    "agent.epsilon_schedule.duration_steps=200",
    "agent.eval_epsilon=0.2",
    "agent.copy_target_every_steps=40",
    "env.sticky_actions=0.3",
    "device=cpu",
]


@pytest.fixture
def configure_q(monkeypatch, tmp_path):
    """`configure_q("agent=c51", ...)` -> the configuration of a short run in a temporary directory."""
    use_stand_in(monkeypatch)

    def build(*overrides, run_dir="run"):
        cfg = run_config(tmp_path / run_dir, "agent=dqn", *SMALL, *overrides)
        OmegaConf.set_struct(cfg, False)  # for `choose`
        return cfg

    return build


def choose(cfg, *words):
    """Set options and groups in a composed configuration, which takes less time than composing."""
    for word in words:
        name, value = word.split("=", 1)
        choice = config_dir() / name / f"{value}.yaml"
        if choice.is_file():
            cfg[name] = OmegaConf.load(choice)
        else:
            OmegaConf.update(cfg, name, yaml.safe_load(value))
    return cfg


@pytest.mark.parametrize(
    "overrides",
    [
        ["normalizer=spectral", "normalizer.layers=[-2,-3]", "num_train_frames=220"],
        pytest.param(["agent=c51", "replay.capacity_steps=70"], marks=pytest.mark.slow),
        pytest.param(["normalizer=mul_eps"], marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(configure_q, tmp_path, interrupt, overrides):
    run(configure_q(*overrides, run_dir="uninterrupted"))
    interrupt(kill, 33, 78, 205)
    assert run_until_finished(lambda: configure_q(*overrides, "checkpoint_every_frames=31")) == 3
    assert training_result(tmp_path / "run") == training_result(tmp_path / "uninterrupted")


def test_a_run_records_what_it_is(configure_q, tmp_path):
    run(configure_q("normalizer=div_grad", "lr=1e-3", "num_train_frames=160"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    choices = {name: record["choices"][name] for name in ("agent", "head", "normalizer", "task")}
    assert choices == {"agent": "dqn", "head": "none", "normalizer": "div_grad", "task": "minatar_breakout"}
    changed = {override["name"] for override in record["overrides"]}
    assert {"lr", "agent.q_network.channels", "env.sticky_actions"} <= changed
    assert not {name for name in changed if name.startswith("normalizer.")}
    rows = read_csv(tmp_path / "run" / "eval.csv")
    assert [row["frame"] for row in rows] == ["0", "150", "160"]
    row = read_csv(tmp_path / "run" / "train.csv")[-1]
    assert {"q", "epsilon", "critic_loss", "sigma/q_network.head.hidden"} <= set(row)


def test_a_trained_agent_loads_and_acts_without_the_simulator(configure_q, tmp_path, monkeypatch, capsys):
    run(configure_q("normalizer=none"))
    assert "rendering" not in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "minatar", None)
    agent = drq_sn.load_agent(tmp_path / "run", "cpu")
    obs = torch.randint(2, (64, 4, 10, 10), dtype=torch.uint8)
    saved = torch.load(tmp_path / "run" / "weights.pt")["networks"]

    def parameters(layer):
        return saved[f"q_network.{layer}.weight"], saved[f"q_network.{layer}.bias"]

    values = obs.float()
    for layer in ("convs.0", "convs.1"):
        values = F.relu(F.conv2d(values, *parameters(layer)))
    values = F.linear(F.relu(F.linear(values.flatten(1), *parameters("hidden"))), *parameters("last"))
    assert agent.predict(obs).tolist() == values.argmax(1).tolist()


def test_an_evaluation_changes_no_random_state(configure_q, tmp_path):
    """As many evaluations as one likes: the weights are the same."""
    weights = []
    for period in (150, 40):
        run(configure_q("num_train_frames=200", f"eval_every_frames={period}", run_dir=str(period)))
        saved = torch.load(tmp_path / str(period) / "weights.pt")["networks"]
        weights.append({name: value.numpy().tobytes() for name, value in saved.items()})
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("head=mlp2", "head must be none for DQN, got drq_sn.networks.heads.MLPHead"),
        ("penalty=gradient", "penalty must be none for DQN, got drq_sn.agents.penalties.GradientPenalty"),
        ("augmentation=random_shift", "augmentation must be none for DQN"),
        ("normalizer=spectral normalizer.conv_layers=all", "normalizer.conv_layers must be none for DQN"),
        ("normalizer=spectral normalizer.trunk=true", "normalizer.trunk must be false for DQN"),
        ("encoder_dtype=bfloat16", "encoder_dtype must be float32 for DQN"),
        ("normalizer=weight_norm normalizer.layers=[-3]", "normalizer.layers must be linear layers for WeightNorm"),
        ("normalizer=spectral normalizer.layers=[-5]", "normalizer.layers must be indices of 4 layers"),
        ("normalizer=div_grad normalizer.scope=head", "normalizer.scope must be one of layer, product, got 'head'"),
        ("agent.q_network.channels=[4,4,4,4,4]", "agent.q_network.channels must be a list of 1 to 4 numbers"),
        ("agent.returns.huber=1", "agent.returns.huber must be true or false"),
        ("task=minatar_pong", "unknown task 'minatar_pong'; did you mean 'minatar_breakout'"),
        ("agent.eval_epsilon=2", "agent.eval_epsilon must be"),
        ("num_eval_processes=2", "num_eval_processes must be 1 for DQN"),
        ("env=suite task=synthetic_point", "task must have discrete actions for DQN; those of synthetic_point are"),
    ],
)
def test_what_does_not_go_together_is_named_in_one_line(configure_q, tmp_path, words, message):
    with pytest.raises(InvalidInput) as error:
        run(choose(configure_q(), *words.split()))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_agents_with_an_actor_refuse_games_and_no_head(configure, configure_q, tmp_path):
    with pytest.raises(InvalidInput, match="head must have layers for DrQV2, got none"):
        run(choose(configure(), "head=none"))
    cfg = choose(configure(), "env=minatar", "task=minatar_breakout")
    with pytest.raises(InvalidInput, match="task must have continuous actions for DrQV2; those of minatar_breakout"):
        run(cfg)


@pytest.mark.slow
@pytest.mark.skipif(not IS_INSTALLED, reason="MinAtar is not installed")
def test_a_short_run_of_breakout_beats_the_random_policy(tmp_path):
    """Five seeds of ours reached 2.19, 2.02, 1.87, 1.72 and 1.54; the random policy's return is 0.52."""
    options = ["agent=dqn", "preset=laptop", "task=minatar_breakout", "num_train_frames=50000", "device=cpu"]
    run(run_config(tmp_path / "run", *options, "agent.q_network.channels=[16]"))
    assert float(read_csv(tmp_path / "run" / "eval.csv")[-1]["episode_return_mean"]) > 1.0
