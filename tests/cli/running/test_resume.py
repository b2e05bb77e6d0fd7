"""A run that was stopped anywhere goes on as if it had not been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from drq_sn.agents import DrQV2
from drq_sn.cli.config.build import load_agent
from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped
from drq_sn.training.loop import LearningCrashed, Loop
from drq_sn.validation import InvalidInput
from tests.fault_injection import outcome, rows

CARTPOLE = ["task=cartpole_balance", "env.image_size=24", "num_train_frames=2300", "eval_every_frames=2000",
            "num_eval_episodes=1", "num_random_steps=1080", "env.shadows=false", "env.reflections=false"]  # fmt: skip


class Interruption(Exception):
    """Stands for a kill: nothing of the run's own is done when it comes."""


@pytest.fixture
def interrupted_at(monkeypatch):
    """`interrupted_at(steps, action)`: at these environment steps, `action()` happens inside the step."""
    original = DrQV2.act

    def arrange(steps, action):
        left = list(steps)

        def act(self, obs, step, explore):
            if explore and left and step >= left[0]:
                left.pop(0)
                action()
            return original(self, obs, step, explore)

        monkeypatch.setattr(DrQV2, "act", act)

    return arrange


def die():
    raise Interruption


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def run_until_finished(cfg_of, expected=(Interruption, Stopped)):
    """Run again and again; return how often it was interrupted."""
    for count in range(20):
        try:
            run(cfg_of())
            return count
        except expected:
            continue
    raise AssertionError("never finished")


@pytest.mark.parametrize("action", [die, terminate])
@pytest.mark.parametrize(
    "words", [["agent=drqv2"], ["agent=drqv2", "replay.capacity_steps=70", "head=mlp2", "normalizer=none"]]
)
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(
    configure, tmp_path, interrupted_at, action, words
):
    run(configure(*words, run_dir="whole"))
    interrupted_at([77, 78, 130, 166, 199], action)
    count = run_until_finished(lambda: configure(*words, "checkpoint_every_frames=14"))
    assert count == 5
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["resumed"]) == 5
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_drq_too(configure, tmp_path, monkeypatch):
    from drq_sn.agents import DrQ

    run(configure("agent=drq", run_dir="whole"))
    update = DrQ.update

    def dying(self, batch, step):
        if step == 133 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            raise Interruption
        return update(self, batch, step)

    monkeypatch.setattr(DrQ, "update", dying)
    assert run_until_finished(lambda: configure("agent=drq", "checkpoint_every_frames=30")) == 1
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_simulated_task_continues_within_an_episode(configure, tmp_path, interrupted_at):
    run(configure(*CARTPOLE, run_dir="whole"))
    interrupted_at([1101, 1137], terminate)
    assert run_until_finished(lambda: configure(*CARTPOLE)) == 2
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_stop_before_the_first_checkpoint_starts_over(configure, tmp_path, interrupted_at):
    run(configure(run_dir="whole"))
    interrupted_at([70], die)
    assert run_until_finished(configure) == 1
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_signal_during_evaluation_and_film_stops_within_a_step(configure, tmp_path, monkeypatch):
    words = ["video_every_frames=200"]
    run(configure(*words, run_dir="whole"))
    act, seen = DrQV2.act, []

    def counting(self, obs, step, explore):
        if not explore:
            seen.append(step)
            if len(seen) == 130:  # the evaluation at frame 200: an episode at frame 0 takes 50 steps, there are two
                terminate()
        return act(self, obs, step, explore)

    monkeypatch.setattr(DrQV2, "act", counting)
    with pytest.raises(Stopped) as stop:
        run(configure(*words))
    assert stop.value.exit_code == 143
    assert len(seen) == 130
    assert not list((tmp_path / "run" / "video").glob("*200*"))
    run(configure(*words))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert (tmp_path / "run" / "video" / "200.mp4").exists()


def test_more_frames_may_be_asked_for_on_the_way(configure, tmp_path, interrupted_at):
    run(configure("num_train_frames=600", run_dir="whole"))
    interrupted_at([150], terminate)
    with pytest.raises(Stopped):
        run(configure())
    run(configure("num_train_frames=600"))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_finished_run_says_so_and_is_left_alone(configure, tmp_path, capsys):
    run(configure())
    before = (tmp_path / "run" / "train.csv").read_bytes()
    run(configure())
    assert "finished already, at frame 400" in capsys.readouterr().out
    assert (tmp_path / "run" / "train.csv").read_bytes() == before
    with pytest.raises(InvalidInput, match=r"the run in .* already finished at frame 400"):
        run(configure("num_train_frames=600"))


def test_a_run_from_before_there_were_these_options_is_the_same_run(configure, tmp_path, capsys):
    run(configure())
    path = tmp_path / "run" / "config.yaml"
    config = OmegaConf.load(path)
    for option in (
        "runtime",
        "cores",
        "num_eval_processes",
        "matmul_precision",
        "penalty",
        "lr_schedule",
        "diagnose_states",
    ):
        del config[option]
    del config.agent.adam_eps, config.normalizer.networks, config.normalizer.conv_layers, config.normalizer.trunk
    del config.replay.storage
    del config.env.shadow_map_size
    del config.head.pnorm, config.head.actor.pnorm, config.head.critic.pnorm
    OmegaConf.save(config, path)
    run(configure())
    assert "finished already, at frame 400" in capsys.readouterr().out
    assert load_agent(tmp_path / "run", "cpu").act(np.zeros((9, 24, 24), np.uint8), 0, explore=False).shape == (2,)
    with pytest.raises(InvalidInput, match="matmul_precision was 'highest' and is 'high' now"):
        run(configure("matmul_precision=high"))
    with pytest.raises(InvalidInput, match=r"head\.actor\.pnorm was False and is True now"):
        run(configure("head.pnorm=true"))


def test_what_instruments_measured_outlives_their_being_off(configure, tmp_path, interrupted_at):
    interrupted_at([115, 150], die)
    words = ["checkpoint_every_frames=20"]
    for switched in (["diagnose_states=16"], ["diagnose_states=0"]):
        with pytest.raises(Interruption):
            run(configure(*words, *switched))
    run(configure(*words, "diagnose_states=16"))
    assert [row["frame"] for row in rows(tmp_path / "run" / "diagnostics.csv")] == ["0", "200", "400"]


def test_a_run_is_played_where_its_runtime_is_not(configure, tmp_path):
    run(configure())
    path = tmp_path / "run" / "config.yaml"
    config = OmegaConf.load(path)
    config.runtime = {"_target_": "drq_sn.agents.runtime.CudaGraph", "num_eager_calls": 3}
    OmegaConf.save(config, path)
    assert load_agent(tmp_path / "run", "cpu").act(np.zeros((9, 24, 24), np.uint8), 0, explore=False).shape == (2,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agent=drq"], "agent._target_ was 'drq_sn.agents.DrQV2' and is 'drq_sn.agents.DrQ' now"),
        (["head.critic.num_blocks=1"], "head.critic.num_blocks was 3 and is 1 now"),
        (["task=cartpole_balance"], "task was 'synthetic_point' and is 'cartpole_balance' now"),
        (["seed=2"], "seed was 1 and is 2 now"),
        (["normalizer.layers=[-2]"], "normalizer.layers was 'inner' and is [-2] now"),
    ],
)
@pytest.mark.parametrize("checkpoint_every_frames", [50, "null"])
def test_another_run_in_the_folder_is_refused_by_name(
    configure, interrupted_at, words, message, checkpoint_every_frames
):
    interrupted_at([100], die)
    with pytest.raises(Interruption):
        run(configure("head.critic.num_blocks=3", f"checkpoint_every_frames={checkpoint_every_frames}"))
    with pytest.raises(InvalidInput) as error:
        run(configure("head.critic.num_blocks=3", *words))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_fewer_frames_than_there_are_is_refused(configure, interrupted_at):
    interrupted_at([100], terminate)
    with pytest.raises(Stopped):
        run(configure())
    with pytest.raises(InvalidInput, match=r"num_train_frames must be at least 202, .* got 200"):
        run(configure("num_train_frames=200", "eval_every_frames=200"))


def test_an_unfinished_run_of_older_code_is_refused_with_its_commit_and_left_unchanged(
    configure, tmp_path, interrupted_at, monkeypatch
):
    interrupted_at([150], terminate)
    monkeypatch.setattr("drq_sn.cli.running.checkpointing.FORMAT", 1)
    with pytest.raises(Stopped):
        run(configure())
    files = {
        path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file() and path.name != ".lock"
    }
    commit = json.loads((tmp_path / "run" / "run.json").read_text())["git_commit"]
    with pytest.raises(
        InvalidInput, match=f"unfinished run of commit {commit or 'unknown'}, which this version cannot resume"
    ):
        run(configure())
    assert {path: path.read_bytes() for path in files} == files


def test_a_run_without_a_readable_checkpoint_is_moved_aside(configure, tmp_path, interrupted_at):
    interrupted_at([150], terminate)
    with pytest.raises(Stopped):
        run(configure())
    logs = (tmp_path / "run" / "train.csv").read_bytes()
    for path in (tmp_path / "run" / "checkpoint").glob("*.pt"):
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.warns(UserWarning, match="damaged"):
        run(configure())
    assert (tmp_path / "run.1" / "train.csv").read_bytes() == logs
    assert len(rows(tmp_path / "run" / "train.csv")) == 4


def test_a_run_killed_between_its_last_two_files_is_finished(configure, tmp_path, monkeypatch):
    def killed(self, *_):
        raise Interruption

    monkeypatch.setattr("drq_sn.runs.checkpoints.CheckpointStore.delete", killed)
    with pytest.raises(Interruption):
        run(configure("checkpoint_every_frames=50"))
    monkeypatch.undo()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "status": "running"}))
    run(configure())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_loss_that_overflowed_is_remembered(agent_of, batch):
    agent, other = agent_of("agent=drqv2"), agent_of("agent=drqv2")
    agent._losses_finite.fill_(False)
    other.load_state_dict(agent.state_dict())
    assert not other.is_finite()


def test_a_sweep_goes_on_past_a_crashed_run(tmp_path):
    words = ["task=synthetic_point", "num_train_frames=400", "eval_every_frames=200", "num_eval_episodes=1",
             "num_random_steps=60", "batch_size=8", "head.width=16", "env.image_size=24", "agent.num_filters=4",
             "video_every_frames=0", "device=cpu", "lr=1e30,1e-4", "run_dir=" + str(tmp_path / "lr_${lr}"),
             "hydra.sweep.dir=" + str(tmp_path / "sweep")]  # fmt: skip
    result = subprocess.run([sys.executable, "-m", "drq_sn.cli.train", "-m", *words], capture_output=True, text=True)
    assert result.returncode == 3, result.stderr
    assert "training diverged" in result.stderr
    records = {p.parent.name: json.loads(p.read_text())["status"] for p in tmp_path.glob("lr_*/run.json")}
    assert sorted(records.values()) == ["crashed", "finished"]


def test_fresh_moves_an_unfinished_run_aside(configure, tmp_path, interrupted_at):
    interrupted_at([100], terminate)
    with pytest.raises(Stopped):
        run(configure())
    run(configure("fresh=true"))
    assert (tmp_path / "run.1" / "checkpoint").is_dir()
    assert (tmp_path / "run" / "weights.pt").is_file()


def test_two_runs_in_one_folder_are_refused_and_a_crash_leaves_no_lock(configure, tmp_path, monkeypatch):
    original = Loop.run

    def second(self, *args):
        monkeypatch.setattr(Loop, "run", original)
        with pytest.raises(InvalidInput, match=rf"locked by process {os.getpid()}"):
            run(configure())
        with pytest.raises(InvalidInput, match="is locked by process"):
            run(configure("fresh=true"))
        raise Interruption

    monkeypatch.setattr(Loop, "run", second)
    with pytest.raises(Interruption):
        run(configure())
    run(configure())
    assert (tmp_path / "run" / "weights.pt").is_file()


def test_crashed_learning_ends_the_run_and_is_kept(configure, tmp_path, interrupted_at, monkeypatch):
    update = DrQV2.update

    def poisoned(self, batch, step):
        if step == 130:
            with torch.no_grad():
                self.critic.q1.first.weight[0, 0] = float("nan")
        return update(self, batch, step)

    monkeypatch.setattr(DrQV2, "update", poisoned)
    with pytest.raises(LearningCrashed) as crash:
        run(configure())
    assert crash.value.frame == 262  # the action after the update at step 130
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["frame"]) == ("crashed", 262)
    assert [row["frame"] for row in rows(tmp_path / "run" / "eval.csv")] == ["0", "200"]
    kept = torch.load(tmp_path / "run" / "checkpoint" / "crashed.pt", weights_only=True)
    assert kept["networks"]["critic.q1.first.weight"].isnan().any()
    with pytest.raises(LearningCrashed):  # a scheduler that tries again gets the same answer
        run(configure())


def test_weights_that_are_no_numbers_are_seen_at_the_episodes_end(configure, monkeypatch):
    update = DrQV2.update

    def poisoned(self, batch, step):
        if step == 130:
            with torch.no_grad():  # the target alone: the next update would spread it
                self.networks["critic_target"].q1.first.weight[0, 0] = float("inf")
            return {}
        return update(self, batch, step) if step < 130 else {}

    monkeypatch.setattr(DrQV2, "update", poisoned)
    with pytest.raises(LearningCrashed) as crash:
        run(configure())
    assert crash.value.frame == 300


def test_a_loss_that_overflows_is_noticed_too(agent_of, batch):
    agent = agent_of("agent=drqv2")
    assert agent.is_finite()
    agent.update(batch._replace(reward=batch.reward * torch.inf), step=0)
    assert not agent.is_finite()


def test_a_film_whose_encoder_dies_costs_the_film_alone(configure, tmp_path, monkeypatch):
    from drq_sn.runs import video

    original, calls = video.VideoRecorder.__call__, []

    def kill_encoder(self, env):
        calls.append(1)
        if len(calls) == 20:
            subprocess.run(["pkill", "-KILL", "-P", str(os.getpid()), "ffmpeg"], check=True)
        original(self, env)

    monkeypatch.setattr(video.VideoRecorder, "__call__", kill_encoder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(configure("video_every_frames=400"))
    assert any("no film, its encoder failed" in str(warning.message) for warning in caught)
    assert (tmp_path / "run" / "weights.pt").is_file()


def test_board_rows_after_the_checkpoint_are_replaced(configure, tmp_path, interrupted_at):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    interrupted_at([130], die)
    run_until_finished(lambda: configure("checkpoint_every_frames=90"))
    board = EventAccumulator(str(tmp_path / "run"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/episode_return")] == [100, 200, 300, 400]


def test_a_checkpoint_from_another_machine_needs_no_gpu(configure, tmp_path, interrupted_at):
    interrupted_at([100], terminate)
    with pytest.raises(Stopped):
        run(configure())
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    run(configure(run_dir="elsewhere"))
    assert np.isfinite(float(rows(tmp_path / "elsewhere" / "eval.csv")[-1]["episode_return_mean"]))


@pytest.mark.gpu
def test_a_run_on_cuda_continues(configure, tmp_path, interrupted_at):
    interrupted_at([77, 130], terminate)
    assert run_until_finished(lambda: configure("device=cuda")) == 2
    assert [row["frame"] for row in rows(tmp_path / "run" / "train.csv")] == ["100", "200", "300", "400"]
