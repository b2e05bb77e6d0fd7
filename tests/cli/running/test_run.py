"""How a run ends, and what it leaves."""

from __future__ import annotations

import json
import os
import warnings

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from drq_sn.agents import DrQV2
from drq_sn.cli import train
from drq_sn.cli.config.saved import load_agent, load_agent_and_frame
from drq_sn.cli.running.run import run
from drq_sn.envs.synthetic import PointMass
from drq_sn.runs.checkpoints import CheckpointStore
from drq_sn.runs.video import VideoRecorder
from drq_sn.training.loop import Loop, TrainingDiverged
from drq_sn.types import SimulationDiverged
from drq_sn.validation import InvalidInput
from tests.builders import TINY, invoke, kill_children, read_csv
from tests.cli.running.interruptions import Killed, kill


def record_of(run_dir):
    return json.loads((run_dir / "run.json").read_text())


def test_a_finished_run_is_left_alone(configure, finished_run, capsys):
    log = (finished_run / "train.csv").read_bytes()
    run(configure())
    assert "already finished at frame 400" in capsys.readouterr().out
    assert (finished_run / "train.csv").read_bytes() == log
    with pytest.raises(InvalidInput, match=r"the run in .* already finished at frame 400 and kept no checkpoint"):
        run(configure("num_train_frames=600"))


def test_the_checkpoint_is_deleted_after_the_run_is_marked_finished(configure, tmp_path, monkeypatch):
    def delete(self):
        assert record_of(tmp_path / "run")["status"] == "finished"
        kill()

    monkeypatch.setattr(CheckpointStore, "delete", delete)
    with pytest.raises(Killed):
        run(configure("num_train_frames=20", "checkpoint_every_frames=10"))


def test_a_run_ends_with_its_return_its_files_and_the_next_command(configure, tmp_path, capsys):
    run(configure("num_train_frames=20"))
    first, *_ = (lines := capsys.readouterr().out.splitlines())
    assert first == "synthetic_point: building agent=drqv2 head=mlp2 normalizer=none"
    (evaluation,) = read_csv(tmp_path / "run" / "eval.csv")[-1:]
    mean, sd = (float(evaluation[f"episode_return_{name}"]) for name in ("mean", "sd"))
    end, files, next_command = lines[-3:]
    assert end == f"synthetic_point: finished at frame 20: return {mean:.1f} ± {sd:.1f} (sd of 2 episodes)"
    assert files.startswith(f"results in {tmp_path / 'run'}: eval.csv, train.csv, diagnostics.csv, weights.pt")
    assert next_command.startswith(f"next: drq-sn evaluate run={tmp_path / 'run'} video=true, drq-sn report runs=")


class NotANumber(PointMass):
    """Its reward is NaN at frame 33 of every episode."""

    def step(self, action):
        time_step = super().step(action)
        return time_step._replace(reward=float("nan")) if self._frame == 33 else time_step


def test_a_reward_that_is_not_a_number_ends_the_episode_not_the_run(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("drq_sn.envs.suite.PointMass", NotANumber)
    with pytest.warns(UserWarning, match="synthetic_point: .* at frame 33 of an episode .reward nan."):
        run(configure())
    assert record_of(tmp_path / "run")["status"] == "finished"
    assert record_of(tmp_path / "run")["diverged_simulations"] == {"training": 11, "evaluation": 6}
    rows = read_csv(tmp_path / "run" / "eval.csv")
    assert all(np.isfinite(float(row["episode_return_mean"])) for row in rows)


def test_an_environment_that_always_diverges_ends_the_run_with_one_line(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("drq_sn.envs.suite.PointMass", NotANumber)
    message = r"the simulation diverged in 5 episodes in a row \(max_diverged_episodes\)"
    with pytest.warns(UserWarning, match="reward nan"), pytest.raises(SimulationDiverged, match=message):
        run(configure("max_diverged_episodes=5"))
    record = record_of(tmp_path / "run")
    assert record["status"] == "failed"
    assert record["error"].startswith("the simulation diverged in 5 episodes")
    assert record["diverged_simulations"]["training"] == 5


@pytest.mark.parametrize("keep_truncated", [False, True])
def test_episodes_shorter_than_n_step(configure, keep_truncated, capsys):
    options = ["env.time_limit_frames=12", "n_step=5", "replay.capacity_steps=8", "num_train_frames=200"]
    cfg = configure(*options, f"replay.keep_truncated={keep_truncated}")
    if keep_truncated:
        run(cfg)
        return
    with pytest.raises(InvalidInput, match="n_step must be at most 3, the number of steps of the longest episode"):
        run(cfg)


def test_an_agent_is_loaded_without_the_runtime_and_the_rounding_it_was_trained_with(finished_run):
    path = finished_run / "config.yaml"
    config = OmegaConf.load(path)
    config.runtime = {"_target_": "drq_sn.agents.runtime.CudaGraph", "num_eager_calls": 3}
    config.encoder_dtype = "bfloat16"
    OmegaConf.save(config, path)
    agent = load_agent(finished_run, "cpu")
    assert agent.encoder.dtype is None  # that of the weights, on every machine
    assert agent.act(np.zeros((9, 24, 24), np.uint8), 0, explore=False).shape == (2,)


OLDER_OPTIONS = ("init_from", "init_networks", "runtime", "cores", "num_eval_processes", "matmul_precision", "penalty",
                 "lr_schedule", "diagnose_states", "encoder_dtype")  # fmt: skip


def test_a_run_without_newer_options_is_the_same_run(configure, tmp_path, capsys):
    overrides = ["normalizer=spectral", "num_train_frames=20"]
    run(configure(*overrides))
    path = tmp_path / "run" / "config.yaml"
    config = OmegaConf.load(path)
    for option in OLDER_OPTIONS:
        del config[option]
    del config.agent.adam_eps, config.normalizer.networks, config.normalizer.conv_layers, config.normalizer.trunk
    del config.replay.storage
    del config.env.shadow_map_size
    for node in (config.head, config.head.actor, config.head.critic):
        node.pop("pnorm", None)
    OmegaConf.save(config, path)
    run(configure(*overrides))
    assert "already finished at frame 20" in capsys.readouterr().out
    assert load_agent(tmp_path / "run", "cpu").act(np.zeros((9, 24, 24), np.uint8), 0, explore=False).shape == (2,)
    with pytest.raises(InvalidInput, match="matmul_precision was 'highest', now 'high'"):
        run(configure(*overrides, "matmul_precision=high"))


def test_two_runs_in_one_directory_are_refused_and_a_killed_one_leaves_no_lock(configure, tmp_path, monkeypatch):
    original = Loop.run

    def second_run(self, *args):
        monkeypatch.setattr(Loop, "run", original)
        for overrides in ([], ["fresh=true"]):
            with pytest.raises(InvalidInput, match=rf"is locked by process {os.getpid()}"):
                run(configure(*overrides))
        raise Killed

    monkeypatch.setattr(Loop, "run", second_run)
    with pytest.raises(Killed):
        run(configure("num_train_frames=200"))
    run(configure("num_train_frames=200"))
    assert (tmp_path / "run" / "weights.pt").is_file()


def test_divergence_ends_the_run_and_its_weights_are_kept(configure, tmp_path, monkeypatch):
    update = DrQV2.update

    def poisoned(self, batch, step):
        if step == 64:
            with torch.no_grad():
                self.critic.q1.layers[0].weight[0, 0] = float("nan")
        return update(self, batch, step)

    monkeypatch.setattr(DrQV2, "update", poisoned)
    with pytest.raises(TrainingDiverged) as error:
        run(configure())
    assert error.value.frame == 260  # the action after the update at step 64
    record = record_of(tmp_path / "run")
    assert (record["status"], record["frame"]) == ("diverged", 260)
    assert [row["frame"] for row in read_csv(tmp_path / "run" / "eval.csv")] == ["0", "200"]
    agent, frame = load_agent_and_frame(tmp_path / "run", "cpu", "last")
    assert frame == 200
    assert agent.is_finite()
    kept = torch.load(tmp_path / "run" / "checkpoint" / "diverged.pt", weights_only=True)
    assert kept["networks"]["critic.q1.layers.0.weight"].isnan().any()
    assert [path.name for path in (tmp_path / "run" / "checkpoint").iterdir()] == ["diverged.pt"]
    for status in ("diverged", "crashed"):  # `crashed` is from older versions
        (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "status": status}))
        (tmp_path / "run" / "checkpoint" / "replay_000000000_000000100.npz").write_text("")  # of a run that was killed
        with pytest.raises(TrainingDiverged, match="frame 260"):
            run(configure())
        assert [path.name for path in (tmp_path / "run" / "checkpoint").iterdir()] == ["diverged.pt"]


def test_non_finite_weights_are_detected_at_the_end_of_an_episode(configure, monkeypatch):
    update = DrQV2.update

    def poisoned(self, batch, step):
        if step == 64:
            with torch.no_grad():  # only the target: the next update would spread it
                self.networks["critic_target"].q1.layers[0].weight[0, 0] = float("inf")
            return {}
        return update(self, batch, step) if step < 64 else {}

    monkeypatch.setattr(DrQV2, "update", poisoned)
    with pytest.raises(TrainingDiverged) as error:
        run(configure())
    assert error.value.frame == 300


def test_multirun_continues_after_a_diverged_run(tmp_path):
    overrides = [*TINY, "num_train_frames=200", "num_eval_episodes=1", "diagnose_states=0", "lr=1e30,1e-4",
                 f"run_dir={tmp_path}/lr_${{lr}}", f"hydra.sweep.dir={tmp_path}/sweep"]  # fmt: skip
    result = invoke(train.main, "-m", *overrides)
    assert result.returncode == 3, result.stderr
    assert "training diverged" in result.stderr
    assert sorted(record_of(path.parent)["status"] for path in tmp_path.glob("lr_*/run.json")) == [
        "diverged",
        "finished",
    ]


def test_a_video_whose_encoder_dies_costs_only_the_video(configure, tmp_path, monkeypatch):
    original, calls = VideoRecorder.__call__, []

    def kill_encoder(self, env):
        calls.append(1)
        if len(calls) == 20:
            kill_children("ffmpeg")
        original(self, env)

    monkeypatch.setattr(VideoRecorder, "__call__", kill_encoder)
    with warnings.catch_warnings(record=True) as caught:  # imageio leaves the pipe of the dead encoder open
        warnings.simplefilter("always")
        run(configure("num_train_frames=200", "video_every_frames=200"))
    assert any("no video, the encoder failed" in str(warning.message) for warning in caught)
    assert (tmp_path / "run" / "weights.pt").is_file()
