"""Episodes in processes give what they give one after the other, also when processes die."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from drq_sn.cli.config.build import random_states_of
from drq_sn.envs import make_env
from drq_sn.envs.subprocess_env import EnvironmentProcess
from drq_sn.training.evaluation import evaluate_in_parallel
from drq_sn.training.loop import evaluate

SYNTHETIC = functools.partial(make_env, "synthetic_point", image_size=24)
CARTPOLE = functools.partial(
    make_env, "cartpole_balance", image_size=24, action_repeat=20, shadows=False, reflections=False
)


class PixelSum:
    """Acts by what it sees, and by nothing else."""

    def __init__(self, num_actions, before_act=lambda: None):
        self.num_actions = num_actions
        self.before_act = before_act

    def act(self, obs, step, explore):
        assert not explore
        self.before_act()
        return np.sin(obs.astype(np.float64).sum() * np.arange(1, self.num_actions + 1)).astype(np.float32)


@contextlib.contextmanager
def processes(make, number):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(EnvironmentProcess(make))) for _ in range(number)]


def one_after_the_other(make, num_actions, states, **options):
    with contextlib.closing(make()) as env:
        return plain(evaluate(env, PixelSum(num_actions), states, **options))


def plain(episodes):
    """Episodes as values that can be compared."""
    return [(episode.first_obs.tobytes(), tuple(episode.rewards)) for episode in episodes]


@pytest.mark.parametrize(("make", "num_actions", "number"), [(SYNTHETIC, 2, 1), (SYNTHETIC, 2, 3), (CARTPOLE, 1, 2)])
def test_returns_and_films_do_not_depend_on_the_number_of_processes(make, num_actions, number):
    states = random_states_of([1, 2000], 5)
    films = [], []
    expected = one_after_the_other(make, num_actions, states, record=lambda env: films[0].append(env.render(16, 16)))
    assert len(set(expected)) == 5
    with processes(make, number) as envs:
        for _ in range(2):  # processes are kept from one evaluation to the next
            films[1].clear()
            record = lambda env: films[1].append(env.render(16, 16))  # noqa: E731
            assert plain(evaluate_in_parallel(envs, PixelSum(num_actions), states, record)) == expected
    assert np.array_equal(*films)


def test_an_episode_whose_process_dies_is_played_again():
    states = random_states_of(3, 4)
    expected = one_after_the_other(SYNTHETIC, 2, states)
    calls = iter(range(10**6))
    with processes(SYNTHETIC, 2) as envs:

        def kill():
            if next(calls) in (20, 70):
                envs[1]._process.kill()
                envs[1]._process.wait()

        assert plain(evaluate_in_parallel(envs, PixelSum(2, kill), states)) == expected


def dying():
    raise SystemExit(1)


class Hanging:
    """Starts, then never answers."""

    def reset(self):
        time.sleep(60)

    step = reset


def test_processes_that_keep_dying_are_an_error():
    with processes(dying, 1) as envs, pytest.raises(RuntimeError, match="died 4 times"):
        evaluate_in_parallel(envs, PixelSum(2), random_states_of(1, 1))


def test_a_process_that_does_not_answer_is_reported(capfd):
    class Stalled(Exception):
        pass

    def stop(reason):
        raise Stalled(reason)

    with processes(Hanging, 1) as envs:
        with pytest.raises(Stalled, match=r"has answered for 0.5 s"):
            evaluate_in_parallel(envs, PixelSum(2), random_states_of(1, 1), limit_seconds=0.5, on_stall=stop)
        envs[0].show_stack()
        time.sleep(0.5)
        envs[0]._process.kill()
    assert "in reset" in capfd.readouterr().err


def test_a_film_that_hangs_has_its_process_replaced():
    states = random_states_of(3, 1)
    expected = one_after_the_other(SYNTHETIC, 2, states)
    drawn = []

    def record(env):
        if len(drawn) == 10 and env._limit_seconds > 1:
            env._limit_seconds = 1.0
            os.kill(env._process.pid, signal.SIGSTOP)
        drawn.append(env.render(16, 16))

    with processes(SYNTHETIC, 1) as envs:
        assert plain(evaluate_in_parallel(envs, PixelSum(2), states, record)) == expected
    assert len(drawn) == 51  # every frame once, though ten were played twice


def test_a_process_that_died_between_evaluations_is_replaced():
    states = random_states_of(3, 2)
    with processes(SYNTHETIC, 2) as envs:
        first = plain(evaluate_in_parallel(envs, PixelSum(2), states))
        for env in envs:
            env._process.kill()
            env._process.wait()
        assert plain(evaluate_in_parallel(envs, PixelSum(2), states)) == first


def test_a_process_does_not_outlive_a_killed_parent():
    code = """
import functools, os, signal
from drq_sn.envs import make_env
from drq_sn.envs.subprocess_env import EnvironmentProcess
env = EnvironmentProcess(functools.partial(make_env, "synthetic_point", image_size=24))
env._receive_within(60)
os.kill(env._process.pid, signal.SIGSTOP)  # as if it hung
print(env._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


def test_a_process_ends_with_the_one_that_asked():
    env = EnvironmentProcess(SYNTHETIC)
    env.begin(random_states_of(1, 1)[0])
    env.receive()
    env.connection.close()
    assert env._process.wait(10) == 0
    env.close()
