"""Evaluations give the same episodes with any number of workers, also when their processes die."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from drq_sn.cli.config.build import build_env, partial_env, random_states_of
from drq_sn.envs import make_env
from drq_sn.envs.subprocess_env import EnvironmentProcess
from drq_sn.envs.synthetic import PointMass
from drq_sn.training.evaluation import EnvironmentPool, LocalWorker, evaluate
from drq_sn.validation import InvalidInput
from tests.builders import compose_config

SYNTHETIC = functools.partial(make_env, "synthetic_point", image_size=24)
CARTPOLE = functools.partial(
    make_env, "cartpole_balance", image_size=24, action_repeat=20, shadows=False, reflections=False
)


class PixelSum:
    """A policy that depends on the observation only."""

    def __init__(self, num_actions=2, before_act=lambda: None):
        self.num_actions = num_actions
        self.before_act = before_act

    def act(self, obs, step, explore):
        assert not explore
        self.before_act()
        return np.sin(obs.astype(np.float64).sum() * np.arange(1, self.num_actions + 1)).astype(np.float32)


def open_pool(make_env, num_workers, limit_seconds=60.0, on_stall=pytest.fail):
    return contextlib.closing(EnvironmentPool(make_env, num_workers, limit_seconds, on_stall))


def comparable(episodes):
    return [(episode.first_obs.tobytes(), tuple(episode.rewards)) for episode in episodes]


def play(make_env, num_workers, states, agent, **options):
    with open_pool(make_env, num_workers) as pool:
        return comparable(evaluate(pool, agent, states, **options))


@functools.cache
def expected(num_episodes):
    return play(SYNTHETIC, 1, random_states_of(3, num_episodes), PixelSum())


@pytest.mark.parametrize(
    ("make_env", "num_actions", "num_workers"),
    [(SYNTHETIC, 2, 3), pytest.param(CARTPOLE, 1, 2, marks=pytest.mark.slow)],
)
def test_episodes_and_video_do_not_depend_on_the_number_of_workers(make_env, num_actions, num_workers):
    states, videos = random_states_of([1, 2000], 5), ([], [])
    agent = PixelSum(num_actions)
    local = play(make_env, 1, states, agent, record=lambda env: videos[0].append(env.render(16, 16)))
    assert len(set(local)) == 5
    with open_pool(make_env, num_workers) as pool:
        for _ in range(2):  # processes are reused
            videos[1].clear()
            record = lambda env: videos[1].append(env.render(16, 16))  # noqa: E731
            assert comparable(evaluate(pool, agent, states, record)) == local
    assert np.array_equal(*videos)


def test_only_the_first_episode_is_recorded_and_rewards_are_summed():
    frames = []
    with open_pool(SYNTHETIC, 1) as pool:
        episodes = evaluate(pool, PixelSum(), random_states_of(3, 2), record=lambda env: frames.append(1))
    assert len(frames) == 51  # 50 steps and the reset
    assert [len(episode.rewards) for episode in episodes] == [50, 50]
    assert episodes[0].episode_return == pytest.approx(sum(episodes[0].rewards))


def test_before_step_stops_an_evaluation_within_a_step():
    acts = []

    def stop():
        if len(acts) == 7:
            raise KeyboardInterrupt

    with open_pool(SYNTHETIC, 1) as pool, pytest.raises(KeyboardInterrupt):
        evaluate(pool, PixelSum(before_act=lambda: acts.append(1)), random_states_of(3, 2), before_step=stop)
    assert len(acts) == 7


def test_an_action_that_is_not_finite_ends_the_evaluation():
    agent = PixelSum()
    agent.act = lambda obs, step, explore: np.array([0.0, np.nan], np.float32)
    with open_pool(SYNTHETIC, 2) as pool, pytest.raises(FloatingPointError, match="not finite"):
        evaluate(pool, agent, random_states_of(3, 2))


def kill(process):
    os.kill(process.pid, signal.SIGKILL)


def test_an_episode_whose_process_dies_is_resumed_in_a_new_one():
    calls = iter(range(10**6))
    frames = []
    with open_pool(SYNTHETIC, 2) as pool:

        def kill_sometimes():
            if next(calls) in (20, 70):
                kill(pool.workers[0])

        agent = PixelSum(before_act=kill_sometimes)
        episodes = evaluate(pool, agent, random_states_of(3, 4), record=lambda env: frames.append(1))
        assert comparable(episodes) == expected(4)
        assert len(frames) == 51
        for _ in range(2):
            for process in pool.workers:  # between two evaluations
                kill(process)
            assert comparable(evaluate(pool, PixelSum(), random_states_of(3, 4))) == expected(4)


def test_what_an_agent_draws_follows_from_the_random_states():
    agent, evaluations = PixelSum(), []
    agent.act = lambda obs, step, explore: (2 * torch.rand(2) - 1).numpy()
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        with open_pool(SYNTHETIC, 1) as pool:
            evaluations.append(comparable(evaluate(pool, agent, random_states_of(3, 2))))
        assert torch.equal(torch.get_rng_state(), before)
    assert evaluations[0] == evaluations[1]


UNSEEDED = """
import numpy as np
from drq_sn.envs.synthetic import PointMass

class Unseeded(PointMass):
    def __init__(self):
        super().__init__(None)
        self.draw, self.random = self.random, None

    def reset(self):
        self.random = self.draw
        time_step = super().reset()
        self.random = None
        return time_step
"""


def test_an_episode_that_does_not_repeat_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "unseeded.py").write_text(UNSEEDED)
    monkeypatch.chdir(tmp_path)
    calls = iter(range(10**6))
    make = functools.partial(make_env, "any", maker="unseeded.Unseeded", image_size=24)
    with open_pool(make, 2) as pool:

        def kill_once():
            if next(calls) == 20:
                kill(pool.workers[0])

        with pytest.raises(RuntimeError, match="does not repeat the episode"):
            evaluate(pool, PixelSum(before_act=kill_once), random_states_of(3, 2))


def test_a_process_that_hangs_while_rendering_is_replaced():
    frames = []
    with open_pool(SYNTHETIC, 2) as pool:

        def record(env):
            if len(frames) == 10 and env._limit_seconds > 1:
                env._limit_seconds = 1.0
                os.kill(env.pid, signal.SIGSTOP)
            frames.append(env.render(16, 16))

        assert comparable(evaluate(pool, PixelSum(), random_states_of(3, 1), record)) == expected(1)
    assert len(frames) == 51


def test_a_process_that_keeps_dying_is_an_error():
    with (
        open_pool(functools.partial(sys.exit, 1), 2) as pool,
        pytest.raises(RuntimeError, match="died 4 times in one episode"),
    ):
        evaluate(pool, PixelSum(), random_states_of(1, 1))


def test_a_process_that_does_not_answer_is_reported_with_its_stack(capfd):
    class Stalled(Exception):
        pass

    def stop(reason):
        raise Stalled(reason)

    hang = functools.partial(time.sleep, 60)
    hanging = functools.partial(types.SimpleNamespace, reset=hang, step=hang)
    with open_pool(hanging, 2, limit_seconds=0.5, on_stall=stop) as pool:
        with pytest.raises(Stalled, match=r"has answered for 0.5 s"):
            evaluate(pool, PixelSum(), random_states_of(1, 1))
        errors = ""
        for _ in range(100):  # the process writes its stack while this one goes on
            errors += capfd.readouterr().err
            if "in _begin" in errors:
                break
            time.sleep(0.1)
        pool.workers[0]._process.kill()
    assert "in _begin" in errors


def test_a_process_does_not_load_torch():
    """Its import is most of the time and memory that a process would take."""
    code = "import sys; sys.modules['torch'] = None; import drq_sn.envs.subprocess_env"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_process_does_not_outlive_a_killed_parent():
    code = """
import functools, os, signal
from drq_sn.envs import make_env
from drq_sn.envs.subprocess_env import EnvironmentProcess
env = EnvironmentProcess(functools.partial(make_env, "synthetic_point", image_size=24), 60)
env._receive_within(60)
os.kill(env.pid, signal.SIGSTOP)  # as if it hung
print(env.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the process is still running")


def test_a_process_ends_when_its_connection_is_closed():
    env = EnvironmentProcess(SYNTHETIC, 60)
    env.begin(random_states_of(1, 1)[0])
    env.receive()
    env.connection.close()
    assert env._process.wait(10) == 0
    env.close()


def test_a_process_that_starts_too_slowly_is_replaced(monkeypatch):
    env = EnvironmentProcess(SYNTHETIC, 60)
    monkeypatch.setattr("drq_sn.envs.subprocess_env.START_SECONDS", 0.0)
    env.begin(random_states_of(1, 1)[0])
    monkeypatch.undo()
    assert env.receive().first()
    env.close()


class Refusing:
    """An environment that does something invalid."""

    def reset(self):
        raise InvalidInput("reward must be a number, got None")

    step = render = reset


def test_invalid_environments_are_named_at_once():
    env = EnvironmentProcess(Refusing, 60)
    env.begin("")
    with pytest.raises(InvalidInput, match="reward must be a number, got None"):
        env.receive()
    env.close()


@pytest.mark.parametrize("action_repeat", [1, 2])
def test_an_episode_whose_simulation_diverges_keeps_its_rewards_so_far(action_repeat, monkeypatch):
    class Diverging(PointMass):
        def step(self, action):
            time_step = super().step(action)
            return time_step._replace(reward=np.nan) if self._frame == 5 else time_step

    monkeypatch.setattr("drq_sn.envs.suite.PointMass", Diverging)
    frames, make_one = [], functools.partial(SYNTHETIC, action_repeat=action_repeat)
    with open_pool(make_one, 1) as pool, pytest.warns(UserWarning, match="at frame 5 of an episode"):
        episodes = evaluate(pool, PixelSum(), random_states_of(3, 2), lambda env: frames.append(env.render(8, 8)))
    assert [(len(episode.rewards), episode.diverged) for episode in episodes] == [(4 // action_repeat, True)] * 2
    assert all(np.isfinite(episode.episode_return) for episode in episodes)
    assert len(frames) == 1 + 4 // action_repeat


@pytest.mark.slow
def test_training_and_evaluation_see_the_same_lqr_whatever_the_number_of_workers():
    cfg = compose_config(
        "task=lqr_lqr_2_1", "seed=3", "env.image_size=24", "action_repeat=50", "env.time_limit_frames=200"
    )
    states = random_states_of(5, 2)
    one, two = (play(partial_env(cfg), num_workers, states, PixelSum(1)) for num_workers in (1, 2))
    training = types.SimpleNamespace(workers=[LocalWorker(build_env(cfg))], wait=list)
    assert one == two == comparable(evaluate(training, PixelSum(1), states))
