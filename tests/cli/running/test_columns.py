"""Runs stand in TensorBoard's table of hyperparameters, under the names of the command line."""

from __future__ import annotations

import os
import signal

import pytest
from hydra.core.hydra_config import HydraConfig

from drq_sn.agents import DrQV2
from drq_sn.cli.running.columns import hyperparameters_of
from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped
from drq_sn.training.loop import TrainingDiverged
from tests.board_reader import columns_of, table, tags_written

SHORT = ["num_train_frames=220", "num_eval_episodes=1", "diagnose_states=0"]


def test_columns_are_what_was_chosen(configure):
    values = hyperparameters_of(
        configure("agent=drq", "head=mlp4", "normalizer=div_out", "normalizer.layers=[-2,-3]", "seed=7")
    )
    names = ("task", "agent", "head", "normalizer", "preset", "normalizer.layers", "seed")
    assert {name: values[name] for name in names} == {
        "task": "synthetic_point", "agent": "drq", "head": "mlp4", "normalizer": "div_out", "preset": "published",
        "normalizer.layers": "-2,-3", "seed": 7,
    }  # fmt: skip
    assert (values["lr"], values["head.critic.num_hidden_layers"], values["head.critic.num_blocks"]) == (1e-3, 4, None)
    assert (values["head.pnorm"], values["agent.std_schedule.duration_steps"], values["normalizer.networks"]) == (
        False,
        None,
        "actor,critic",
    )


def test_every_run_has_the_same_columns(configure):
    runs = [[], ["agent=drq", "head=mlp2", "normalizer=none"], ["head=simba", "normalizer=nap", "preset=laptop"]]
    columns = [hyperparameters_of(configure(*words)) for words in runs]
    assert list(columns[0]) == list(columns[1]) == list(columns[2])
    kinds = [{name: type(value) for name, value in each.items() if isinstance(value, (bool, str))} for each in columns]
    assert kinds[0] == kinds[1] == kinds[2]


def test_a_run_without_hydra_has_columns_too(configure):
    cfg = configure()
    HydraConfig.instance().cfg = None
    assert hyperparameters_of(cfg)["agent"] == ""
    assert hyperparameters_of(cfg)["batch_size"] == 8


def test_an_interrupted_run_is_one_line_that_ends_once(configure, tmp_path, monkeypatch):
    act, left = DrQV2.act, [35]

    def stopping(self, obs, step, explore):
        if explore and left and step >= left[0]:
            os.kill(os.getpid(), left.pop() and signal.SIGTERM)
        return act(self, obs, step, explore)

    monkeypatch.setattr(DrQV2, "act", stopping)
    with pytest.raises(Stopped):
        run(configure(*SHORT, run_dir="runs/a"))
    assert table(tmp_path / "runs")["a"][2] == "STATUS_UNKNOWN"
    run(configure(*SHORT, run_dir="runs/a"))
    run(configure(*SHORT, "agent=drq", "seed=2", run_dir="runs/b"))
    lines = table(tmp_path / "runs")
    assert {name: (values["agent"], values["seed"], status) for name, (values, _, status) in lines.items()} == {
        "a": ("drqv2", 1.0, "STATUS_SUCCESS"),
        "b": ("drq", 2.0, "STATUS_SUCCESS"),
    }
    assert {"eval/episode_return", "learner/critic_loss", "grad_norm/actor"} <= lines["a"][1].keys()
    assert columns_of(tmp_path / "runs")[:5] == ["agent", "head", "normalizer", "seed", "task"]
    written = tags_written(tmp_path / "runs" / "a")
    assert written["_hparams_/session_start_info"] == written["_hparams_/session_end_info"] == 1


def test_divergence_is_recorded(configure, tmp_path, monkeypatch):
    def crash(*args):
        raise TrainingDiverged(100)

    monkeypatch.setattr("drq_sn.training.loop.Loop.run", crash)
    with pytest.raises(TrainingDiverged):
        run(configure(*SHORT, run_dir="runs/a"))
    assert table(tmp_path / "runs")["a"][2] == "STATUS_FAILURE"
