"""A resumed run ends exactly like an uninterrupted one; one that cannot be resumed is refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from dm_control.rl.control import PhysicsError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from drq_sn.agents import DrQV2
from drq_sn.cli import evaluate
from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped
from drq_sn.envs.synthetic import PointMass
from drq_sn.runs.checkpoints import CheckpointStore
from drq_sn.runs.files import load_weights
from drq_sn.validation import InvalidInput
from tests.builders import invoke, read_csv, training_result
from tests.cli.running.interruptions import Killed, kill, run_until_finished, terminate

CARTPOLE = ["task=cartpole_balance", "env.image_size=24", "num_train_frames=2300", "eval_every_frames=2000",
            "num_eval_episodes=1", "num_random_steps=1080", "action_repeat=2", "env.shadows=false",
            "env.reflections=false"]  # fmt: skip
DRQ = ["agent=drq", "num_train_frames=300"]
SMALL_REPLAY = ["agent=drqv2", "replay.capacity_steps=35"]


@pytest.mark.parametrize(
    ("overrides", "action"),
    [
        (["agent=drqv2", "head=modern4", "normalizer=spectral", "num_train_frames=320"], kill),
        (SMALL_REPLAY, terminate),
        (DRQ, kill),
        pytest.param(["agent=drqv2"], terminate, marks=pytest.mark.slow),
        pytest.param(SMALL_REPLAY, kill, marks=pytest.mark.slow),
        pytest.param(["agent=drq"], terminate, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    configure, tmp_path, interrupt, overrides, action
):
    run(configure(*overrides, run_dir="uninterrupted"))
    interrupt(action, 17, 38, 39, 65)  # within the uniform phase, twice within an episode, in a later one
    assert run_until_finished(lambda: configure(*overrides, "checkpoint_every_frames=14")) == 4
    assert training_result(tmp_path / "run") == training_result(tmp_path / "uninterrupted")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["resumed"]) == 4
    assert not (tmp_path / "run" / "checkpoint").exists()
    events = EventAccumulator(str(tmp_path / "run")).Reload()  # rows after a checkpoint are replaced
    frames = [event.step for event in events.Scalars("train/episode_return")]
    assert [str(frame) for frame in frames] == [row["frame"] for row in read_csv(tmp_path / "run" / "train.csv")]


class Diverging(PointMass):
    """Diverges at random, about once in 60 frames."""

    def step(self, action):
        if self.random.uniform() < 1 / 60:
            raise PhysicsError("mjWARN_BADQACC")
        return super().step(action)


@pytest.mark.filterwarnings("ignore:.*the simulation diverged")
def test_a_run_whose_simulation_diverges_at_random_resumes_exactly(configure, tmp_path, interrupt, monkeypatch):
    monkeypatch.setattr("drq_sn.envs.suite.PointMass", Diverging)
    run(configure(run_dir="uninterrupted"))
    interrupt(kill, 17, 38, 65)
    assert run_until_finished(lambda: configure("checkpoint_every_frames=14")) == 3
    assert training_result(tmp_path / "run") == training_result(tmp_path / "uninterrupted")
    counts = json.loads((tmp_path / "run" / "run.json").read_text())["diverged_simulations"]
    episodes, evaluations = (read_csv(tmp_path / "run" / name) for name in ("train.csv", "eval.csv"))
    assert counts["training"] == int(episodes[-1]["num_diverged_simulations"]) > 0
    assert counts["evaluation"] == sum(int(row["num_diverged_simulations"]) for row in evaluations) > 0


@pytest.mark.slow
def test_a_simulated_task_resumes_within_an_episode(configure, tmp_path, interrupt):
    run(configure(*CARTPOLE, run_dir="uninterrupted"))
    interrupt(terminate, 1101, 1137)
    assert run_until_finished(lambda: configure(*CARTPOLE)) == 2
    assert training_result(tmp_path / "run") == training_result(tmp_path / "uninterrupted")


@pytest.mark.gpu
def test_a_run_on_cuda_resumes(configure, tmp_path, interrupt):
    interrupt(terminate, 38, 65)
    assert run_until_finished(lambda: configure("device=cuda")) == 2
    assert [row["frame"] for row in read_csv(tmp_path / "run" / "train.csv")] == ["100", "200", "300", "400"]


def test_an_unfinished_run_can_be_evaluated_and_resumed(configure, stopped_run):
    result = invoke(evaluate.main, f"run={stopped_run}", "episodes=1", "device=cpu")
    assert f"{stopped_run} at frame 200: return" in result.stdout  # of the last evaluation
    record = json.loads((stopped_run / "run.json").read_text())
    (stopped_run / "run.json").write_text(json.dumps({**record, "resumed": 3}))  # damaged
    run(configure())
    assert load_weights(stopped_run, "cpu")["frame"] == 400


def test_a_run_killed_before_its_first_checkpoint_starts_over(configure, tmp_path, interrupt, finished_run):
    shutil.move(finished_run, tmp_path / "uninterrupted")
    interrupt(kill, 35)
    assert run_until_finished(configure) == 1
    assert training_result(tmp_path / "run") == training_result(tmp_path / "uninterrupted")


def test_logs_that_others_edit_end_as_if_they_had_not(configure, tmp_path, interrupt, finished_run):
    shutil.move(finished_run, tmp_path / "uninterrupted")

    def disturb():
        for name in ("train.csv", "eval.csv"):
            path = tmp_path / "run" / name
            path.write_text(path.read_text().replace("0", "1"))
        (tmp_path / "run" / "diagnostics.csv").rename(tmp_path / "run" / "diagnostics.csv.1")

    interrupt(disturb, 55)
    with pytest.warns(UserWarning, match="its rows have been written again") as caught:
        run(configure())
    assert len(caught) == 3
    assert training_result(tmp_path / "run") == training_result(tmp_path / "uninterrupted")
    assert sorted(path.name for path in (tmp_path / "run").glob("*backup*")) == [
        "eval.csv.backup-1",
        "train.csv.backup-1",
    ]


@pytest.mark.slow
def test_logs_that_are_damaged_while_a_run_is_stopped_end_as_if_they_had_not(
    configure, tmp_path, finished_run, request
):
    shutil.move(finished_run, tmp_path / "uninterrupted")
    stopped_run = request.getfixturevalue("stopped_run")
    (stopped_run / "train.csv").write_bytes((stopped_run / "train.csv").read_bytes()[:-20] + bytes(100))
    (stopped_run / "eval.csv").unlink()
    (stopped_run / "diagnostics.csv").rename(tmp_path / "target.csv")
    (stopped_run / "diagnostics.csv").symlink_to(tmp_path / "target.csv")
    before = (tmp_path / "target.csv").read_text()
    with pytest.warns(UserWarning, match="its rows have been written again") as caught:
        run(configure())
    assert len(caught) == 3
    assert training_result(stopped_run) == training_result(tmp_path / "uninterrupted")
    assert (tmp_path / "target.csv").read_text() == before


def test_a_signal_during_an_evaluation_with_video_stops_within_a_step(configure, tmp_path, finished_run, monkeypatch):
    shutil.move(finished_run, tmp_path / "uninterrupted")
    act, steps = DrQV2.act, []

    def counting(self, obs, step, explore):
        if not explore:
            steps.append(step)
            if len(steps) == 65:  # in the evaluation at frame 200: each has two episodes of 25 steps
                terminate()
        return act(self, obs, step, explore)

    monkeypatch.setattr(DrQV2, "act", counting)
    with pytest.raises(Stopped) as stop:
        run(configure("video_every_frames=200"))
    assert stop.value.exit_code == 143
    assert len(steps) == 65
    assert not list((tmp_path / "run" / "video").glob("*200*"))
    run(configure("video_every_frames=200"))
    assert training_result(tmp_path / "run") == training_result(tmp_path / "uninterrupted")
    assert (tmp_path / "run" / "video" / "200.mp4").exists()


def test_a_moved_run_may_resume_with_more_frames_and_other_options_of_the_machine(configure, tmp_path, stopped_run):
    run(configure("num_train_frames=600", run_dir="uninterrupted"))
    shutil.move(stopped_run, tmp_path / "elsewhere")
    options = ["replay.storage=host", "checkpoint_every_seconds=100", "env_limit_seconds=50", "run_suffix=_of_a_name"]
    run(configure("num_train_frames=600", *options, run_dir="elsewhere"))
    assert training_result(tmp_path / "elsewhere") == training_result(tmp_path / "uninterrupted")


# within an episode, and where the longer run evaluates, too
@pytest.mark.parametrize("num_frames", [340, pytest.param(400, marks=pytest.mark.slow)])
def test_a_finished_run_is_trained_further_from_its_checkpoint(configure, tmp_path, num_frames):
    run(configure(f"num_train_frames={num_frames}", "keep_checkpoint=true"))
    run(configure(f"num_train_frames={num_frames}"))  # finished: its checkpoint is left alone
    run(configure("num_train_frames=600"))
    run(configure("num_train_frames=600", run_dir="uninterrupted"))
    *logs, (last, _), (last_weights, _) = training_result(tmp_path / "run")
    *expected_logs, (expected_last, _), (expected_weights, _) = training_result(tmp_path / "uninterrupted")
    assert logs == expected_logs
    assert last == expected_last
    assert last_weights == expected_weights
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["resumed"][0]["frame"]) == ("finished", num_frames)


def test_a_longer_run_whose_replay_would_hold_more_says_so(configure, monkeypatch):
    monkeypatch.setattr("drq_sn.cli.config.build.SPARE_EPISODES", 0)  # too few slots for episodes of 25 steps
    run(configure("keep_checkpoint=true"))
    with pytest.warns(UserWarning, match=r"kept the last 101 steps of its replay.* keeps 151; .* not bit-identical"):
        run(configure("num_train_frames=600"))


def test_a_schedule_over_the_length_of_the_run_cannot_get_longer(configure):
    run(configure("keep_checkpoint=true", "lr_schedule=linear", "num_train_frames=100"))
    with pytest.raises(InvalidInput, match=r"lr_schedule.num_train_frames was 100, now 200"):
        run(configure("num_train_frames=200", "lr_schedule=linear"))


def test_diagnostics_are_kept_while_they_are_off(configure, tmp_path, interrupt):
    interrupt(kill, 57, 75)
    for num_states in (16, 0):
        with pytest.raises(Killed):
            run(configure("checkpoint_every_frames=20", f"diagnose_states={num_states}"))
    run(configure("checkpoint_every_frames=20"))
    assert [row["frame"] for row in read_csv(tmp_path / "run" / "diagnostics.csv")] == ["0", "200", "400"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["agent=drq"], "agent._target_ was 'drq_sn.agents.DrQV2', now 'drq_sn.agents.DrQ'"),
        (["head=mlp4"], "head.critic.num_hidden_layers was 2, now 4"),
        (["task=cartpole_balance"], "task was 'synthetic_point', now 'cartpole_balance'"),
        (["seed=2"], "seed was 1, now 2"),
        (["augmentation.pad=3"], "augmentation.pad was 4, now 3"),
        (["num_train_frames=200"], "num_train_frames must be at least 304"),
    ],
)
def test_another_run_in_the_directory_is_refused_by_name(configure, stopped_run, overrides, message):
    with pytest.raises(InvalidInput) as error:
        run(configure(*overrides))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_another_run_is_refused_without_a_checkpoint_too(configure, stopped_run):
    shutil.rmtree(stopped_run / "checkpoint")
    with pytest.raises(InvalidInput, match="seed was 1, now 2"):
        run(configure("seed=2"))


def test_an_unfinished_run_of_older_code_is_refused_with_its_commit_and_left_unchanged(
    configure, stopped_run, monkeypatch
):
    files = {path: path.read_bytes() for path in stopped_run.rglob("*") if path.is_file() and path.name != ".lock"}
    commit = json.loads((stopped_run / "run.json").read_text())["git_commit"]
    monkeypatch.setattr("drq_sn.cli.running.run.FORMAT", 1_000)
    with pytest.raises(
        InvalidInput, match=f"unfinished run of commit {commit or 'unknown'}, which this version cannot resume"
    ):
        run(configure())
    assert {path: path.read_bytes() for path in files} == files


def test_a_finished_run_of_older_code_is_finished(configure, monkeypatch, capsys):
    run(configure("keep_checkpoint=true"))
    monkeypatch.setattr("drq_sn.cli.running.run.FORMAT", 1_000)
    run(configure("keep_checkpoint=true"))
    assert "already finished at frame 400" in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="which this version cannot resume"):
        run(configure("keep_checkpoint=true", "num_train_frames=600"))


def test_a_run_without_a_readable_checkpoint_is_moved_to_a_backup(configure, tmp_path, stopped_run):
    log = (stopped_run / "train.csv").read_bytes()
    for path in (stopped_run / "checkpoint").glob("*.pt"):
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.warns(UserWarning, match="damaged"):
        run(configure())
    assert (tmp_path / "run.1" / "train.csv").read_bytes() == log
    assert len(read_csv(tmp_path / "run" / "train.csv")) == 4


@pytest.mark.parametrize("key", ["config", "agent", "replay", "loop", "random"])
def test_a_checkpoint_of_other_software_is_one_line(configure, stopped_run, monkeypatch, key):
    read = CheckpointStore.newest
    monkeypatch.setattr(CheckpointStore, "newest", lambda self: removed(read(self), key))
    with pytest.raises(InvalidInput) as error:
        run(configure())
    assert "\n" not in str(error.value)


def removed(checkpoint, key):
    del checkpoint.state[key]
    return checkpoint


def test_fresh_moves_an_unfinished_run_to_a_backup(configure, tmp_path, stopped_run):
    run(configure("fresh=true"))
    assert (tmp_path / "run.1" / "checkpoint").is_dir()
    assert (tmp_path / "run" / "weights.pt").is_file()


def test_a_checkpoint_keeps_that_a_loss_overflowed(agent_of, batch):
    agent, resumed = agent_of("agent=drqv2"), agent_of("agent=drqv2")
    assert agent.is_finite()
    agent.update(batch._replace(reward=batch.reward * torch.inf), step=0)
    state = agent.state_dict()
    state["networks"] = resumed.state_dict()["networks"]  # whose weights are finite
    resumed.load_state_dict(state)
    assert not agent.is_finite()
    assert not resumed.is_finite()
