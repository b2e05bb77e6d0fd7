"""Episodes in processes give what they give one after the other, also when processes die."""

from __future__ import annotations

import contextlib
import functools
import time

import numpy as np
import pytest

from drq_sn.cli.build import random_states_of
from drq_sn.envs import make_env
from drq_sn.envs.process import EnvironmentProcess
from drq_sn.loop import evaluate
from drq_sn.parallel_evaluation import evaluate_in_parallel

SYNTHETIC = functools.partial(make_env, "synthetic_point", image_size=24)
CARTPOLE = functools.partial(make_env, "cartpole_balance", image_size=24, action_repeat=20, shadows=False, reflections=False)


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
        return evaluate(env, PixelSum(num_actions), states, **options)


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
            assert evaluate_in_parallel(envs, PixelSum(num_actions), states, record) == expected
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

        assert evaluate_in_parallel(envs, PixelSum(2, kill), states) == expected


def dying():
    raise SystemExit(1)


def hanging():
    time.sleep(30)


def test_processes_that_keep_dying_are_an_error():
    with processes(dying, 1) as envs, pytest.raises(RuntimeError, match="died 4 times"):
        evaluate_in_parallel(envs, PixelSum(2), random_states_of(1, 1))


def test_a_process_that_does_not_answer_is_reported():
    class Stalled(Exception):
        pass

    def stop(reason):
        raise Stalled(reason)

    with processes(hanging, 1) as envs:
        with pytest.raises(Stalled, match=r"has answered for 0.5 s"):
            evaluate_in_parallel(envs, PixelSum(2), random_states_of(1, 1), limit_seconds=0.5, on_stall=stop)
        envs[0]._process.kill()


def test_a_process_ends_with_the_one_that_asked():
    env = EnvironmentProcess(SYNTHETIC)
    env.begin(random_states_of(1, 1)[0])
    env.receive()
    env.connection.close()
    assert env._process.wait(10) == 0
    env.close()
