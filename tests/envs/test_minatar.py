"""MinAtar; where it is not installed, most tests use a small game with the interface of the package."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest

from drq_sn import make_env
from drq_sn.cli import train
from drq_sn.envs.minatar import GAMES
from drq_sn.validation import InvalidInput
from tests.builders import invoke
from tests.games import IS_INSTALLED, use_stand_in

MAKER = "drq_sn.envs.minatar.make_env"
REAL = pytest.mark.skipif(not IS_INSTALLED, reason="MinAtar is not installed")
RANDOM_SCORES = {  # mean return of the uniform policy and its standard error
    "asterix": (0.50, 0.03),
    "breakout": (0.52, 0.01),
    "seaquest": (0.09, 0.01),
    "space_invaders": (2.86, 0.08),
}


@pytest.fixture
def game(monkeypatch):
    """`game(task, ...)` builds an environment of the package, or of the stand-in."""
    use_stand_in(monkeypatch)

    def build(task="minatar_breakout", seed=0, **options):
        defaults = {"action_repeat": 1, "frame_stack": 1, "time_limit_frames": 10000}
        return make_env(task, seed, maker=MAKER, **{**defaults, **options})

    return build


def play(env, actions):
    """Observations, rewards and discounts of these actions; episodes follow each other."""
    steps = [env.reset()]
    for action in actions:
        steps.append(env.reset() if steps[-1].last() else env.step(np.array(action)))
    return [(step.observation.tobytes(), step.reward, step.discount) for step in steps]


def test_observations_are_planes_and_actions_numbers(game):
    env = game()
    step = env.reset()
    assert step.observation.shape == env.observation_spec().shape == (4, 10, 10)
    assert step.observation.dtype == np.uint8
    assert set(np.unique(step.observation)) == {0, 1}
    assert env.action_spec().num_values == 6
    assert env.frame_shape == (4, 10, 10)
    picture = env.render(60, 90)
    assert (picture.shape, picture.dtype) == ((60, 90, 3), np.uint8)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1
    with pytest.raises(InvalidInput, match=r"action must be integers of shape \(\) in \[0, 5\], got 6"):
        env.step(np.array(6))
    with pytest.raises(InvalidInput, match="action must be integers"):
        env.step(np.array(1.0))


def test_frames_can_be_stacked(game):
    env = game(frame_stack=3)
    first = env.reset().observation
    second = env.step(np.array(1)).observation
    assert first.shape == (12, 10, 10)
    assert np.array_equal(second[:4], first[8:])
    assert not np.array_equal(second[8:], first[8:])


def test_a_lost_game_terminates_and_the_limit_truncates(game):
    env = game(time_limit_frames=3000)
    step = env.reset()
    while not step.last():
        step = env.step(np.array(0))
    assert step.discount == 0.0
    env = game(time_limit_frames=2)
    env.reset()
    env.step(np.array(0))
    last = env.step(np.array(0))
    assert (last.last(), last.discount) == (True, 1.0)


def test_an_episode_follows_from_its_random_state_sticky_actions_included(game):
    actions = np.random.default_rng(0).integers(6, size=200)
    env, other = game(seed=1, sticky_actions=0.5), game(seed=2, sticky_actions=0.5)
    play(env, actions)
    play(other, actions[::-1])  # another sticky action is the last one
    other.random_state = env.random_state
    assert play(env, actions) == play(other, actions)


@REAL
def test_20000_steps_equal_the_package_driven_directly():
    import minatar

    actions = np.random.default_rng(3).integers(6, size=20000)
    direct = minatar.Environment("breakout")
    direct.seed(7)
    direct.reset()
    env = make_env("minatar_breakout", 7, maker=MAKER, action_repeat=1, frame_stack=1, time_limit_frames=10**6)
    step, num_episodes = env.reset(), 0
    for action in actions:
        step = env.step(np.array(action))
        reward, is_over = direct.act(action)
        assert (step.reward, step.last()) == (reward, is_over)
        assert np.array_equal(step.observation, direct.state().transpose(2, 0, 1))
        if is_over:
            num_episodes += 1
            direct.reset()
            direct.last_action = 0  # the package keeps it
            step = env.reset()
    assert num_episodes > 1000


def random_returns(name, num_episodes):
    """Returns of the uniform policy."""
    env = make_env(f"minatar_{name}", 5, maker=MAKER, action_repeat=1, frame_stack=1, time_limit_frames=10**6)
    random, returns = np.random.default_rng(0), []
    for _ in range(num_episodes):
        step, total = env.reset(), 0.0
        while not step.last():
            step = env.step(np.array(random.integers(6)))
            total += step.reward
        returns.append(total)
    return np.array(returns)


@REAL
@pytest.mark.parametrize(
    ("name", "num_episodes"),
    [pytest.param("breakout", 1000)]
    + [pytest.param(name, 1000, marks=pytest.mark.slow) for name in ("asterix", "seaquest", "space_invaders")],
)
def test_the_random_policy_scores_as_it_should(name, num_episodes):
    returns, (expected, error) = random_returns(name, num_episodes), RANDOM_SCORES[name]
    own_error = returns.std(ddof=1) / len(returns) ** 0.5
    assert abs(returns.mean() - expected) < 4 * np.hypot(own_error, error)


@REAL
@pytest.mark.parametrize("name", GAMES)
def test_every_game_plays(name):
    env = make_env(f"minatar_{name}", maker=MAKER, action_repeat=1, frame_stack=1, time_limit_frames=2500)
    first = env.reset().observation
    step = env.step(np.array(1))
    assert first.shape == step.observation.shape == env.observation_spec().shape
    assert env.render(30, 30).shape == (30, 30, 3)


@REAL
@pytest.mark.slow
def test_freeway_ends_by_its_time_limit():
    env = make_env("minatar_freeway", maker=MAKER, action_repeat=1, frame_stack=1, time_limit_frames=10**6)
    step, num_steps = env.reset(), 0
    while not step.last():
        step, num_steps = env.step(np.array(0)), num_steps + 1
    assert (num_steps, step.discount) == (2501, 1.0)


def test_importing_it_changes_no_logging(monkeypatch, tmp_path, caplog):
    lines = [
        "import logging",
        "logging.warning('seaborn is missing')",
        "from tests.games import StandIn as Environment",
    ]
    (tmp_path / "minatar.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "minatar", None)  # so that what was there comes back
    del sys.modules["minatar"]
    handlers = list(logging.getLogger().handlers)
    make_env("minatar_breakout", maker=MAKER)
    assert logging.getLogger().handlers == handlers
    assert caplog.records == []


@pytest.mark.parametrize(("probability", "is_same"), [(1.0, True), (0.0, False)])
def test_sticky_actions_are_as_probable_as_asked(game, probability, is_same):
    actions = np.arange(40) % 6
    episodes = [play(game(sticky_actions=probability), each) for each in (actions, 0 * actions)]
    assert (episodes[0] == episodes[1]) == is_same


def test_without_the_package_there_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "minatar", None)
    with pytest.raises(InvalidInput, match=r"env=minatar needs 'pip install drq_sn\[minatar\]'"):
        make_env("minatar_breakout", maker=MAKER)
    done = invoke(train.main, "agent=dqn", "task=minatar_breakout", f"run_dir={tmp_path / 'run'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: env=minatar needs")
    assert list(tmp_path.iterdir()) == []


def test_unknown_games_are_refused(game):
    with pytest.raises(InvalidInput, match=r"unknown task 'minatar_brekout'; did you mean 'minatar_breakout'"):
        game("minatar_brekout")
    with pytest.raises(InvalidInput, match="sticky_actions must be a number >= 0 and <= 1"):
        game(sticky_actions=2.0)
