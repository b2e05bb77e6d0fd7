"""Environments that hang, and renderers that are lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from drq_sn.envs import make_env
from drq_sn.envs.watchdog import Watchdog

HANGING = """
import sys, time
from drq_sn.envs.synthetic import PointMass
from drq_sn.cli import train

step, calls = PointMass.step, []
def hanging(self, action):
    calls.append(1)
    if len(calls) == 250:
        time.sleep(60)
    return step(self, action)
PointMass.step = hanging
"""


def test_it_passes_everything_on():
    plain, watched = (
        make_env("synthetic_point", 1, image_size=24),
        Watchdog(make_env("synthetic_point", 1, image_size=24), 9, print),
    )
    state = plain.random_state
    assert np.array_equal(plain.reset().observation, watched.reset().observation)
    watched.random_state = state
    assert watched.random_state == state
    action = np.ones(2, np.float32)
    assert plain.step(action).reward == watched.step(action).reward
    assert watched.action_spec() == plain.action_spec()
    watched.close()


def test_a_call_that_hangs_is_reported_once_and_a_slow_learner_is_not():
    reports, release = [], threading.Event()
    env = make_env("synthetic_point", image_size=24)
    watched = Watchdog(env, 0.2, reports.append)
    watched.reset()
    time.sleep(0.5)  # the learner's time, not the environment's
    assert reports == []
    env._env.step = lambda action: release.wait(5) and env._env.reset()
    threading.Timer(0.8, release.set).start()
    watched.step(np.zeros(2))
    assert reports == ["the environment has not answered for 0.2 s (in step)"]
    watched.close()


def test_a_run_whose_environment_hangs_ends_with_its_reason(tmp_path):
    overrides = ["task=synthetic_point", "num_train_frames=1000", "num_eval_episodes=1", "num_random_steps=900",
             "env.image_size=24", "env_limit_seconds=1", "device=cpu", "video_every_frames=0", "head.width=16",
             f"run_dir={tmp_path / 'run'}"]  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", HANGING + "train.main()", *overrides], capture_output=True, text=True, timeout=50
    )
    assert result.returncode == 5
    assert "the environment has not answered for 1 s (in step); stack:" in result.stderr
    assert "in hanging" in result.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "the environment has not answered for 1 s (in step)")


def test_a_lost_opengl_context_is_made_again(monkeypatch):
    env = make_env("cartpole_balance", image_size=32)
    from dm_control.mujoco import Camera  # make_env has chosen the backend by now

    expected = env.reset().observation
    state = env.random_state
    render, lost = Camera.render, []

    def failing(self, *args, **kwargs):
        if not lost:
            lost.append(1)
            raise RuntimeError("context lost")
        return render(self, *args, **kwargs)

    monkeypatch.setattr(Camera, "render", failing)
    with pytest.warns(
        UserWarning, match="cartpole_balance: rendering failed .context lost.; creating a new OpenGL context"
    ):
        frame = env.render(32, 32)
    assert np.array_equal(frame.transpose(2, 0, 1), expected[-3:])
    assert env.random_state == state
    env.close()


@pytest.mark.parametrize(
    "task", ["cartpole_balance", "reacher_easy", "point_mass_hard", pytest.param("reach_duplo", marks=pytest.mark.slow)]
)
def test_the_random_state_makes_the_same_episode_follow(task):
    env = make_env(task, 3, image_size=32)
    env.reset()
    state = env.random_state
    action = np.full(env.action_spec().shape, 0.5)
    first = [env.reset().observation, *(env.step(action).observation for _ in range(5))]
    other = env.reset().observation
    env.random_state = state
    again = [env.reset().observation, *(env.step(action).observation for _ in range(5))]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other) or task == "reach_duplo"
    env.close()
