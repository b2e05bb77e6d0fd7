"""The replay against a plain list of episodes and loops."""

from __future__ import annotations

import dm_env
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drq_sn import validation
from drq_sn.training.replay import UniformReplay, bytes_per_step
from tests.builders import FRAME_SIZE, GAMMA, STACK, make_replay, play_episodes, stored_transitions


def transitions(history, n_step, capacity, keep_truncated=False):
    """Every transition whose frames are all among the newest `capacity`, by brute force: start slot -> contents."""
    total = sum(map(len, history))
    found = {}
    for episode in history:
        for t in range(len(episode) - 1):
            num_steps = min(n_step, len(episode) - 1 - t)
            stack = [episode[max(t - back, 0)][0] for back in (2, 1, 0)]
            next_stack = [episode[max(t + num_steps - back, 0)][0] for back in (2, 1, 0)]
            is_truncated = num_steps < n_step and episode[-1][3] != 0.0
            if stack[0] < total - capacity or (is_truncated and not keep_truncated):
                continue
            reward, discount = 0.0, 1.0
            for k in range(1, num_steps + 1):
                reward += discount * episode[t + k][2]
                discount *= GAMMA * episode[t + k][3]
            found[episode[t][0]] = (stack, episode[t + 1][1], reward, discount, next_stack)
    return found


@settings(deadline=None, max_examples=250)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=10),
    capacity=st.integers(8, 40),
    n_step=st.integers(1, 5),
    terminal=st.sets(st.integers(0, 9)),
    keep_truncated=st.booleans(),
)
def test_it_holds_exactly_the_transitions_of_a_plain_list(lengths, capacity, n_step, terminal, keep_truncated):
    replay = make_replay(capacity, n_step, keep_truncated=keep_truncated)
    expected = transitions(play_episodes(replay, lengths, terminal), n_step, capacity, keep_truncated)
    found = stored_transitions(replay)
    assert set(found) == set(expected)
    assert replay.num_transitions == len(expected)
    for start, (stack, action, reward, discount, next_stack) in expected.items():
        ours = found[start]
        assert ours[0] == [k % 256 for k in stack]
        assert ours[1] == action.tolist()
        assert ours[2] == pytest.approx(reward, rel=1e-5)
        assert ours[3] == pytest.approx(discount, rel=1e-5)
        assert ours[4] == [k % 256 for k in next_stack]


def test_draws_are_uniform_over_all_transitions():
    replay = make_replay(capacity=30, n_step=2, batch_size=60_000)
    expected = transitions(play_episodes(replay, [9, 9, 9, 9]), 2, 30)
    drawn = replay.sample().obs[:, 6, 0, 0]
    counts = torch.bincount(drawn.int(), minlength=40)
    assert set(counts.nonzero().flatten().tolist()) == set(expected)
    mean = 60_000 / len(expected)
    assert float((counts[counts > 0] - mean).abs().max()) < 5 * mean**0.5


def test_a_transition_can_be_sampled_the_moment_it_is_complete():
    replay = make_replay(n_step=3)
    play_episodes(replay, [2])
    assert replay.num_transitions == 0
    with pytest.raises(IndexError, match="no complete transition"):
        replay.sample()
    play_episodes(replay, [3])
    assert replay.num_transitions == 1
    assert replay.sample().obs.shape == (4, 9, FRAME_SIZE, FRAME_SIZE)


def test_frames_may_have_other_planes_than_three_colors():
    replay = UniformReplay(
        (14, 2, 2), 1, num_channels=7, action_dtype=torch.int64, capacity_steps=9, n_step=1, batch_size=1, gamma=GAMMA
    )
    planes = np.arange(2 * 14, dtype=np.uint8).reshape(2, 14, 1, 1) + np.zeros((1, 1, 2, 2), np.uint8)
    planes[1, :7] = planes[0, 7:]  # a stack of two frames of seven planes each, which share one
    replay.add(dm_env.restart(planes[0]), None)
    replay.add(dm_env.termination(1.0, planes[1]), np.array([4]))
    batch = replay.sample()
    assert np.array_equal(batch.next_obs[0].numpy(), planes[1])
    assert np.array_equal(batch.obs[0].numpy(), np.concatenate([planes[0, 7:], planes[0, 7:]]))
    assert (batch.action.tolist(), batch.action.dtype) == ([[4]], torch.int64)


@pytest.mark.parametrize("keep_truncated", [False, True])
def test_an_episode_without_a_last_step_ends_as_a_truncation_when_the_next_one_starts(keep_truncated):
    replay = make_replay(n_step=3, keep_truncated=keep_truncated)
    history = play_episodes(make_replay(), [5])
    for number, (_, action, reward, discount) in enumerate(history[0][:-1]):
        kind = dm_env.StepType.MID if number else dm_env.StepType.FIRST
        observation = np.full((3 * STACK, FRAME_SIZE, FRAME_SIZE), number, np.uint8)
        replay.add(dm_env.TimeStep(kind, reward, discount, observation), action)
    before = replay.num_transitions
    replay.add(dm_env.restart(observation), None)
    assert (before, replay.num_transitions) == (2, 4 if keep_truncated else 2)
    last = replay.gather(torch.tensor([3]))
    assert (float(last.reward[0]), float(last.discount[0])) == (4.0, pytest.approx(GAMMA))


def test_the_smallest_ring_holds_one_transition_in_the_middle_of_an_episode():
    with pytest.raises(validation.InvalidInput, match=r"replay\.capacity_steps must be an integer >= 7, got 6"):
        make_replay(capacity=6, n_step=4)
    replay = make_replay(capacity=7, n_step=4)
    play_episodes(replay, [30])
    assert replay.num_transitions == 1


def test_one_seed_gives_one_sequence_of_draws():
    replays = [make_replay(seed=3), make_replay(seed=3), make_replay(seed=4)]
    for replay in replays:
        play_episodes(replay, [12, 12])
    first, second, other = ([r.sample().reward.tolist() for _ in range(5)] for r in replays)
    assert first == second != other


@pytest.mark.parametrize("action_dim", [1, 6, 21])
def test_a_step_of_84_by_84_costs_at_most_21_4_kb(action_dim):
    replay = UniformReplay((9, 84, 84), action_dim, capacity_steps=501, batch_size=1, n_step=3, gamma=0.99)
    assert replay.num_bytes / 500 <= 21_400  # an episode of 500 steps takes 501 slots
    assert replay.num_bytes == 501 * bytes_per_step((3, 84, 84), action_dim)


def test_a_replay_that_cannot_fit_says_what_would(monkeypatch):
    monkeypatch.setattr("drq_sn.training.replay.available_memory", lambda *_: 10**6)
    with pytest.raises(
        validation.InvalidInput, match=r"replay.capacity_steps must be at most about \d+, got 100000: it needs 0.0.* GB"
    ):
        make_replay(capacity=100_000)


def test_a_place_for_frames_that_does_not_exist_is_named():
    with pytest.raises(validation.InvalidInput, match=r"replay.storage must be one of auto, device, host, got 'disk'"):
        make_replay(storage="disk")


@pytest.mark.gpu
@pytest.mark.parametrize("storage", ["auto", "device", "host"])
def test_batches_for_a_gpu_are_the_hosts(storage):
    expected, replay = make_replay(seed=3), make_replay(storage=storage, seed=3, device="cuda")
    for each in (expected, replay):
        play_episodes(each, [12, 40])
    restored = make_replay(storage=storage, seed=4, device="cuda")
    restored.restore(replay.state_dict(), iter(parts_of(replay, 7)))
    for _ in range(3):
        for ours, again, theirs in zip(replay.sample(), restored.sample(), expected.sample(), strict=True):
            assert ours.device.type == again.device.type == "cuda"
            assert torch.equal(ours.cpu(), theirs)
            assert torch.equal(again.cpu(), theirs)


@st.composite
def histories(draw):
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=8))
    options = {"capacity": draw(st.integers(8, 40)), "n_step": draw(st.integers(1, 4))}
    options["keep_truncated"] = draw(st.booleans())
    return lengths, draw(st.sets(st.integers(0, 7))), options, draw(st.integers(1, 30))


def parts_of(replay, size):
    return [
        (first, replay.export(first, min(first + size, replay.num_slots)))
        for first in range(replay.oldest_slot, replay.num_slots, size)
    ]


@settings(deadline=None, max_examples=100)
@given(histories())
def test_a_restored_replay_draws_and_continues_as_the_saved_one(history):
    lengths, terminal, options, size = history
    saved, restored = make_replay(**options, seed=1), make_replay(**options, seed=2)
    play_episodes(saved, lengths, terminal)
    restored.restore(saved.state_dict(), iter(parts_of(saved, size)))
    for replay in (saved, restored):
        replay.drawn = [replay.sample().reward.tolist() for _ in range(3) if replay.num_transitions]
    play_episodes(saved, [5, 7])
    play_episodes(restored, [5, 7])
    assert restored.drawn == saved.drawn
    assert stored_transitions(restored) == stored_transitions(saved)
    torch.testing.assert_close(restored.state_dict(), saved.state_dict(), rtol=0, atol=0)


def continue_episode(replay, num_steps):
    """More steps of the current episode."""
    for number in range(num_steps):
        observation = np.full((3 * STACK, FRAME_SIZE, FRAME_SIZE), number, np.uint8)
        replay.add(dm_env.transition(1.0, observation), np.zeros(2, np.float32))


def test_a_smaller_ring_takes_what_fits():
    saved, restored = make_replay(capacity=60, n_step=2), make_replay(capacity=20, n_step=2)
    play_episodes(saved, [9, 9, 9, 9])
    restored.restore(saved.state_dict(), parts_of(saved, 10))
    assert set(stored_transitions(restored)) == {start for start in stored_transitions(saved) if start >= 20}
    assert stored_transitions(restored).items() <= stored_transitions(saved).items()


@settings(deadline=None, max_examples=100)
@given(histories(), st.data())
def test_a_replay_with_a_damaged_part_draws_every_intact_transition(history, data):
    lengths, terminal, options, size = history
    saved, restored = make_replay(**options), make_replay(**options)
    play_episodes(saved, lengths, terminal)
    parts = parts_of(saved, size)
    assume(len(parts) > 1)
    lost = data.draw(st.integers(0, len(parts) - 2))  # the newest one belongs to its checkpoint, refused as a whole
    gap = range(parts[lost][0], parts[lost + 1][0])
    restored.restore(saved.state_dict(), parts[:lost] + parts[lost + 1 :])
    for replay in (saved, restored):  # the current episode goes on, then another
        continue_episode(replay, 3)
        play_episodes(replay, [4])
    expected = {}
    for start, transition in stored_transitions(saved).items():
        episode = int(saved._episode_starts[start % saved.capacity])
        slots = range(max(start - STACK + 1, episode), start + saved.n_step + 1)
        num_after = sum(int(saved._episode_starts[slot % saved.capacity]) > episode for slot in slots)
        # a shorter one also needs the first slot of the next episode, from which its end is known
        if not set(slots[: len(slots) - max(0, num_after - 1)]) & set(gap):
            expected[start] = transition
    assert stored_transitions(restored) == expected
