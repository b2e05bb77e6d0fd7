"""Whole runs on a tiny task and on a rendered one: outputs, determinism, interruption, evaluation."""

from __future__ import annotations

import json
import shutil

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import drq_sn
from drq_sn.cli import evaluate, train
from drq_sn.cli.running.run import run
from drq_sn.validation import InvalidInput
from tests.builders import CLOCKS, TINY, compose_config, invoke, read_csv, run_config

SMALL_CARTPOLE = [
    "task=cartpole_balance",
    "num_train_frames=200",
    "eval_every_frames=2000",
    "num_eval_episodes=1",
    "env.shadows=false",
    "env.time_limit_frames=400",
]
MODERN = ["head=modern4", "normalizer=spectral"]


@pytest.fixture(scope="module")
def _trained(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    run(run_config(run_dir, *TINY, *MODERN, "video_every_frames=200", "seed=3"))
    return run_dir


@pytest.fixture
def trained(_trained, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(_trained, tmp_path / "run")


def test_a_run_leaves_what_it_promises(trained):
    assert {p.name for p in trained.iterdir() if not p.name.startswith("events")} == {
        "config.yaml", "run.json", "train.csv", "eval.csv", "diagnostics.csv", "video", "weights.pt", "best.pt",
        ".lock",
    }  # fmt: skip
    assert [r["frame"] for r in read_csv(trained / "eval.csv")] == ["0", "200", "400"]
    train = read_csv(trained / "train.csv")
    assert [r["frame"] for r in train] == ["100", "200", "300", "400"]
    assert train[-1]["num_updates"] == "35"  # steps 30, 32, ..., 98
    assert float(train[-1]["grad_norm_max/actor"]) > 0
    assert sum(name.startswith("sigma/") for name in train[0]) == 26  # 6 in each of 2 + 2 Q heads, 2 in the actor
    record = json.loads((trained / "run.json").read_text())
    assert record["status"] == "finished"
    assert (record["choices"]["head"], record["choices"]["preset"]) == ("modern4", "published")
    assert {"name": "head.width", "value": 16, "published": 1024} in record["overrides"]
    assert set(record["versions"]) >= {"python", "torch", "mujoco", "dm_control"}
    assert set(record["gl"]) == {"backend", "renderer"}
    assert len(record["first_frame_sha256"]) == 64
    assert OmegaConf.load(trained / "config.yaml").seed == 3
    videos = sorted(p.name for p in (trained / "video").iterdir())
    assert videos == ["0.mp4", "200.mp4", "400.mp4"]
    num_frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(trained / "video" / "0.mp4"))
    assert num_frames == 26  # a reset and 25 steps
    assert seconds == pytest.approx(26 / 30, abs=0.1)


@pytest.mark.parametrize("agent", [pytest.param("drq", marks=pytest.mark.slow), "drqv2"])
def test_one_seed_gives_one_result_whatever_is_evaluated_and_recorded(configure, tmp_path, agent):
    small = [f"agent={agent}", "num_train_frames=200"]
    run(configure(*small, run_dir="a"))
    run(configure(*small, "num_eval_processes=2", run_dir="b"))
    often = ["eval_every_frames=100", "video_every_frames=100", "num_eval_episodes=1"]
    run(configure(*small, *often, run_dir="c"))
    run(configure(*small, "num_train_frames=20", "seed=2", run_dir="d"))
    weights = [torch.load(tmp_path / name / "weights.pt")["networks"] for name in "abcd"]
    for other in (1, 2):
        assert all(torch.equal(value, weights[other][name]) for name, value in weights[0].items())
    assert not torch.equal(weights[0]["encoder.convs.0.weight"], weights[3]["encoder.convs.0.weight"])
    logs = [read_csv(tmp_path / name / "train.csv", without=CLOCKS) for name in "abc"]
    assert logs[0] == logs[1] == logs[2]
    returns = [[row["episode_return_mean"] for row in read_csv(tmp_path / name / "eval.csv")] for name in "ab"]
    assert returns[0] == returns[1]
    frames = {json.loads((tmp_path / name / "run.json").read_text())["first_frame_sha256"] for name in "abcd"}
    assert len(frames) == 1  # it identifies what is rendered, whatever the seed


def test_a_rendered_task_trains(configure, tmp_path):
    run(configure(*SMALL_CARTPOLE, "preset=laptop", "batch_size=8", "num_random_steps=80", "head.width=16"))
    evaluations = read_csv(tmp_path / "run" / "eval.csv")
    assert [r["frame"] for r in evaluations] == ["0", "200"]
    assert 0 < float(evaluations[0]["episode_return_mean"]) <= 400


def test_a_finished_run_is_not_overwritten(configure, trained, tmp_path):
    before = (trained / "weights.pt").read_bytes()
    run(configure(*MODERN, "seed=3"))
    assert (trained / "weights.pt").read_bytes() == before
    run(configure(*MODERN, "num_train_frames=20", "fresh=true", "seed=4"))
    assert (tmp_path / "run.1" / "weights.pt").read_bytes() == before
    assert json.loads((trained / "run.json").read_text())["choices"]["seed"] == 4


def test_a_failure_is_recorded_with_its_reason(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("drq_sn.training.loop.Loop.run", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(configure())
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert "ZeroDivisionError" in record["error"]


def test_a_run_is_evaluated_and_recorded_again(trained, capsys):
    options = [f"run={trained}", "episodes=2", "seed=5", "device=cpu"]
    first = evaluate.run_evaluation(compose_config(*options, "video=true", config="evaluate"))
    second = evaluate.run_evaluation(compose_config(*options, "video=false", config="evaluate"))
    assert first == second
    assert f"{trained} at frame 400: return" in capsys.readouterr().out
    assert (trained / "video" / "400_seed_5.mp4").stat().st_size > 1000


def test_the_best_evaluation_is_repeated(trained, capsys):
    evaluations = {
        float(row["episode_return_mean"]): int(row["frame"]) for row in reversed(read_csv(trained / "eval.csv"))
    }
    result = invoke(evaluate.main, f"run={trained}", "episodes=1", "device=cpu", "weights=best")
    assert f" at frame {evaluations[max(evaluations)]}: return" in result.stdout


def test_load_agent_acts_like_the_trained_one(trained):
    agent = drq_sn.load_agent(trained, device="cpu")
    saved = torch.load(trained / "weights.pt")["networks"]
    assert all(torch.equal(value, saved[name]) for name, value in agent.networks.state_dict().items())
    action = agent.act(np.zeros((9, 24, 24), np.uint8), step=0, explore=False)
    assert action.shape == (2,)


def test_weights_of_another_network_are_refused(trained):
    path = trained / "config.yaml"
    path.write_text(path.read_text().replace("width: 16", "width: 8"))
    with pytest.raises(InvalidInput, match="do not fit"):
        drq_sn.load_agent(trained, device="cpu")


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"is not a run directory"):
        drq_sn.load_agent(tmp_path)


@pytest.mark.parametrize("override", ["launcher=ray", "launcher.num_cpus=2", "hydra/launcher=submitit_slurm"])
def test_multirun_takes_no_launcher(override):
    result = invoke(train.main, "--multirun", "seed=1,2", override)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert override.split("=")[0] in line
