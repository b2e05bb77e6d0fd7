"""Replay memory: single frames in a ring; n-step transitions are assembled at sampling time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dm_env
import numpy as np
import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.training.limits import available_memory
from drq_sn.training.transfers import gather_rows, to_device
from drq_sn.types import Batch

RGB, HOST = 3, torch.device("cpu")
STORAGES = ("auto", "device", "host")
DEVICE_FRACTION = 0.8  # of an accelerator's free memory; networks need the rest


class UniformReplay:
    """A ring of single frames from which n-step transitions are sampled uniformly.

    A *slot* holds one time step: its newest frame, and the action, reward and discount that led to it. A *transition*
    from slot s ends at s + n_step, in the same episode. The last n_step - 1 transitions of an episode have fewer
    steps: they are kept if the episode terminated (discount 0), and dropped, as in the published replay, if it was
    truncated, unless `keep_truncated`. Slots are counted from 0 without wrapping; slot s is stored at s % capacity.
    The start slots of all transitions form a queue in the order of completion, so sampling is one uniform integer per
    transition, and a transition leaves the queue when the ring overwrites the oldest frame of its stack.

    Args:
        obs_shape: (num_channels * stacked frames, H, W).
        action_dim: number of action dimensions; 1 for discrete actions.
        capacity_steps: slots in the ring; an episode of N steps takes N + 1.
        batch_size: transitions per batch.
        n_step: length of a transition, in steps.
        gamma: discount per step.
        device: where batches go.
        num_channels, action_dtype: channels of a frame, and type of an action.
        storage: where frames are stored: `device`, `host`, or `auto`: on `device` if they fit there. Batches go from
            the host to a CUDA device through pinned memory; everything but frames is small and stays on the host.
        keep_truncated: also keep transitions cut short by a truncation; after k < n_step steps they bootstrap from the
            last observation with gamma^k.
        seed: seed of sampling.

    Raises:
        InvalidInput: for an invalid value, or if the ring does not fit into free memory.
    """

    def __init__(
        self,
        obs_shape: tuple[int, int, int],
        action_dim: int,
        *,
        capacity_steps: int,
        batch_size: int,
        n_step: int,
        gamma: float,
        num_channels: int = RGB,
        action_dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        storage: str = "auto",
        keep_truncated: bool = False,
        seed: int = 0,
    ) -> None:
        self.n_step = validation.integer("n_step", n_step)
        self._num_stacked = obs_shape[0] // num_channels
        smallest = n_step + self._num_stacked  # frames of one transition
        self.capacity = validation.integer("replay.capacity_steps", capacity_steps, minimum=smallest)
        self._keep_truncated = validation.boolean("replay.keep_truncated", keep_truncated)
        self.batch_size = validation.integer("batch_size", batch_size)
        self.gamma = validation.real("gamma", gamma, 0, 1)
        self._device = torch.device(device)
        frame_shape = (num_channels, *obs_shape[1:])
        num_bytes = self.capacity * bytes_per_step(frame_shape, action_dim, action_dtype)
        frame_device = self._frame_device(validation.choice("replay.storage", storage, STORAGES), num_bytes)
        validation.fits_in_memory("replay.capacity_steps", self.capacity, num_bytes, available_memory(frame_device))
        self._frames = torch.empty((self.capacity, *frame_shape), dtype=torch.uint8, device=frame_device)
        self._frames.zero_()  # takes the memory now; untouched pages would be taken while training goes on
        self._flat_frames = self._frames.view(self.capacity, -1)
        self._actions = torch.zeros((self.capacity, action_dim), dtype=action_dtype)
        self._rewards, self._discounts = torch.zeros(self.capacity), torch.zeros(self.capacity)
        self._episode_starts = torch.zeros(self.capacity, dtype=torch.int64)
        self._starts = torch.zeros(self.capacity, dtype=torch.int64)
        self._num_slots = 0
        self._first_start = self._end_start = 0  # the queue, counted like slots
        self._current_episode = self._intact_from = 0
        self._episode_is_open = False
        self._generator = torch.Generator().manual_seed(seed)

    def _frame_device(self, storage: str, num_bytes: int) -> torch.device:
        """Device that frames are stored on."""
        if storage == "auto" and self._device.type != "cpu":
            return self._device if num_bytes <= DEVICE_FRACTION * available_memory(self._device) else HOST
        return HOST if storage == "host" else self._device

    @property
    def num_transitions(self) -> int:
        """Number of transitions that can be sampled now."""
        return self._end_start - self._first_start

    @property
    def num_bytes(self) -> int:
        """Bytes of all storage, filled or not."""
        return sum(t.numel() * t.element_size() for t in (*self._columns().values(), self._starts))

    def add(self, time_step: dm_env.TimeStep, action: np.ndarray | None) -> None:
        """Store `time_step` and the action that led to it (None at the first step of an episode).

        An episode ends with a last step, or else as a truncation when the next one starts.
        """
        slot = self._num_slots
        if time_step.first():
            self._end_episode()
            self._current_episode, self._episode_is_open = slot, True
        i = slot % self.capacity
        frame = torch.from_numpy(np.ascontiguousarray(time_step.observation[-self._frames.shape[1] :]))
        self._frames[i] = to_device(frame, self._frames.device)
        self._episode_starts[i] = self._current_episode
        if not time_step.first():
            self._actions[i] = torch.as_tensor(action)
            self._rewards[i] = time_step.reward
            self._discounts[i] = time_step.discount
        self._num_slots += 1
        if slot - self.n_step >= self._current_episode:
            self._append(slot - self.n_step)
        if time_step.last():
            self._end_episode()
        self._drop_overwritten()

    def _end_episode(self) -> None:
        """Append the shorter transitions at the end of the current episode."""
        if self._episode_is_open:
            self._episode_is_open = False
            for start in self._cut_starts(self._num_slots - 1):
                self._append(start)

    def _cut_starts(self, last_slot: int) -> list[int]:
        """Starts of the kept transitions of fewer than n_step steps in the episode that ends at `last_slot`."""
        i = last_slot % self.capacity
        if not self._keep_truncated and float(self._discounts[i]) != 0.0:
            return []
        episode = int(self._episode_starts[i])
        starts = range(max(last_slot - self.n_step + 1, episode), last_slot)
        return [start for start in starts if self._is_intact(start, episode)]

    def _append(self, start: int) -> None:
        """Add the transition from `start` to the queue, unless slots that it needs are missing."""
        if self._is_intact(start, self._current_episode):
            self._starts[self._end_start % self.capacity] = start
            self._end_start += 1

    def _drop_overwritten(self) -> None:
        oldest = self._num_slots - self.capacity
        while self._first_start < self._end_start:
            start = int(self._starts[self._first_start % self.capacity])
            episode = int(self._episode_starts[start % self.capacity])
            if start >= oldest and max(start - self._num_stacked + 1, episode) >= oldest:
                return
            self._first_start += 1

    def sample(self) -> Batch:
        """Sample `batch_size` transitions uniformly with replacement, on the learner's device.

        Raises:
            IndexError: if no transition is complete yet.
        """
        return self._sample(self.batch_size, self._generator)

    def peek(self, num_transitions: int, seed: int) -> Batch:
        """Like `sample`, with a separate generator: the batches of later `sample` calls do not change."""
        return self._sample(num_transitions, torch.Generator().manual_seed(seed))

    def _sample(self, num_transitions: int, generator: torch.Generator) -> Batch:
        if self.num_transitions == 0:
            raise IndexError("the replay holds no complete transition yet")
        index = torch.randint(self._first_start, self._end_start, (num_transitions,), generator=generator)
        return self.gather(self._starts[index % self.capacity])

    def gather(self, starts: Tensor) -> Batch:
        """The transitions that start at slots `starts` (B,) int64, as a batch."""
        episodes = self._episode_starts[starts % self.capacity]
        reward, discount = torch.zeros(len(starts)), torch.ones(len(starts))
        ends, continues = starts.clone(), torch.ones(len(starts), dtype=torch.bool)
        for k in range(1, self.n_step + 1):
            i = (starts + k) % self.capacity
            continues &= (starts + k < self._num_slots) & (self._episode_starts[i] == episodes)
            reward += discount * self._rewards[i] * continues
            discount *= torch.where(continues, self.gamma * self._discounts[i], 1.0)
            ends += continues
        batch = Batch(
            obs=self._stack(starts, episodes),
            action=self._actions[(starts + 1) % self.capacity],
            reward=reward,
            discount=discount,
            next_obs=self._stack(ends, episodes),
        )
        return Batch(*(to_device(field, self._device) for field in batch))

    def _stack(self, slots: Tensor, episodes: Tensor) -> Tensor:
        """Frames (B, channels * T, H, W) up to `slots`; the first frame of an episode is repeated before its start."""
        back = torch.arange(self._num_stacked - 1, -1, -1)
        index = torch.maximum(slots[:, None] - back, episodes[:, None]) % self.capacity
        pin_memory = self._device.type == "cuda" and self._frames.device.type == "cpu"
        frames = gather_rows(self._flat_frames, to_device(index.flatten(), self._frames.device), pin_memory)
        return frames.view(len(slots), -1, *self._frames.shape[2:])

    @property
    def num_slots(self) -> int:
        """Number of slots filled since the start, overwritten ones included."""
        return self._num_slots

    @property
    def oldest_slot(self) -> int:
        """The oldest slot that is not overwritten."""
        return max(0, self._num_slots - self.capacity)

    def export(self, first: int, end: int) -> dict[str, np.ndarray]:
        """Slots first..end-1, none overwritten, as arrays by name, oldest first; see `restore`."""
        i = torch.arange(first, end) % self.capacity
        return {name: storage[i.to(storage.device)].cpu().numpy() for name, storage in self._columns().items()}

    def state_dict(self) -> dict[str, Any]:
        """Capacity, counters and random state; see `export` for the contents of the slots."""
        return {
            "capacity": self.capacity,
            "num_slots": self._num_slots,
            "end_start": self._end_start,
            "current_episode": self._current_episode,
            "episode_is_open": self._episode_is_open,
            "generator": self._generator.get_state(),
        }

    def restore(self, state: dict[str, Any], parts: Iterable[tuple[int, dict[str, np.ndarray]]]) -> None:
        """Restore what `state_dict` and `export` returned.

        Args:
            state: from `state_dict`.
            parts: first slot and arrays of consecutive ranges of slots, oldest first. Transitions that need
                missing slots are dropped.
        """
        self._num_slots, self._current_episode = state["num_slots"], state["current_episode"]
        self._episode_is_open = state["episode_is_open"]
        self._generator.set_state(state["generator"])
        starts: list[int] = []
        expected = self._intact_from = self.oldest_slot
        for first, arrays in parts:
            if first > expected:
                self._intact_from = first  # slots are missing before it
            expected = max(expected, first + len(arrays["episode_starts"]))
            slots = torch.arange(max(first, self.oldest_slot), max(expected, self.oldest_slot))
            for name, storage in self._columns().items():
                rows = torch.from_numpy(arrays[name])[slots - first]
                storage[(slots % self.capacity).to(storage.device)] = rows.to(storage.device)
            starts += self._starts_completed_by(slots)
        if not state["episode_is_open"]:
            starts += self._cut_starts(self._num_slots - 1)
        self._end_start = state["end_start"]
        self._first_start = self._end_start - len(starts)
        self._starts[torch.arange(self._first_start, self._end_start) % self.capacity] = torch.tensor(
            starts, dtype=torch.int64
        )

    def _starts_completed_by(self, slots: Tensor) -> list[int]:
        """Starts of the transitions that `slots` complete and that need no missing slot, in order."""
        episodes = self._episode_starts[slots % self.capacity]
        starts = slots - self.n_step
        is_intact = torch.maximum(starts - self._num_stacked + 1, episodes) >= self._intact_from
        completed = starts[(starts >= episodes) & is_intact].tolist()
        for first in slots[episodes == slots].tolist():
            if first > self._intact_from:  # the last slot of the episode before is not missing
                completed += self._cut_starts(first - 1)
        return sorted(completed)

    def _is_intact(self, start: int, episode: int) -> bool:
        """Whether the transition from `start` needs no missing slot."""
        return max(start - self._num_stacked + 1, episode) >= self._intact_from

    def _columns(self) -> dict[str, Tensor]:
        """Storage of each field of a slot."""
        return {
            "frames": self._frames,
            "actions": self._actions,
            "rewards": self._rewards,
            "discounts": self._discounts,
            "episode_starts": self._episode_starts,
        }


def bytes_per_step(frame_shape: tuple[int, ...], action_dim: int, action_dtype: torch.dtype = torch.float32) -> int:
    """Bytes per slot: frame, action, reward, discount and two int64 indices."""
    return int(np.prod(frame_shape)) + action_dtype.itemsize * action_dim + 4 + 4 + 8 + 8
