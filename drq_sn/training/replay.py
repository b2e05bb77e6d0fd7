"""Replay memory: every frame once, n-step windows put together when they are drawn."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dm_env
import numpy as np
import torch
from torch import Tensor

from drq_sn import validation
from drq_sn.types import Batch

RGB = 3
STORAGES = ("auto", "device", "host")
DEVICE_SHARE = 0.8  # of an accelerator's free memory; networks need the rest
CGROUP = Path("/sys/fs/cgroup")
CGROUP_FILES = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


class UniformReplay:
    """A ring of single frames that draws n-step windows uniformly.

    A *slot* holds one time step: its newest frame, and the action, reward and discount that led to
    it. A *window* from slot s reaches to s + n_step, both in one episode. Slots are counted from 0
    without wrapping; slot s lives at s % capacity. The starts of all windows stand in a queue in the
    order in which they became complete, so a draw is one uniform integer, and a window leaves the
    queue when the ring overwrites the oldest frame that its stack needs.

    Args:
        obs_shape: (3 * stacked frames, H, W).
        action_dim: number of action dimensions.
        capacity_steps: slots in the ring; an episode of N steps takes N + 1.
        batch_size: windows per draw.
        n_step: length of a window, in steps.
        gamma: discount per step.
        device: where batches go.
        storage: where frames stay: `device`, `host`, or `auto`: on `device` if they fit there. From the
            host to a CUDA device, batches go through pinned memory; everything but frames is small and
            stays on the host.
        seed: seed of the draws.

    Raises:
        InvalidInput: for a wrong number, or when the ring cannot fit in the memory that is free.
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
        device: torch.device | str = "cpu",
        storage: str = "auto",
        seed: int = 0,
    ) -> None:
        self.n_step = validation.integer("n_step", n_step)
        self.capacity = validation.integer("replay.capacity_steps", capacity_steps, minimum=n_step + 2)
        self.batch_size = validation.integer("batch_size", batch_size)
        self.gamma = validation.real("gamma", gamma, 0, 1)
        self._num_stacked = obs_shape[0] // RGB
        self._device = torch.device(device)
        frame_shape = (RGB, *obs_shape[1:])
        num_bytes = self.capacity * bytes_per_step(frame_shape, action_dim)
        place = self._place(validation.choice("replay.storage", storage, STORAGES), num_bytes)
        validation.fits_in_memory("replay.capacity_steps", self.capacity, num_bytes, available_memory(place))
        self._frames = torch.empty((self.capacity, *frame_shape), dtype=torch.uint8, device=place)
        self._flat_frames = self._frames.view(self.capacity, -1)
        self._actions = torch.zeros((self.capacity, action_dim))
        self._rewards = torch.zeros(self.capacity)
        self._discounts = torch.zeros(self.capacity)
        self._episode_starts = torch.zeros(self.capacity, dtype=torch.int64)
        self._starts = torch.zeros(self.capacity, dtype=torch.int64)
        self._num_slots = 0
        self._first_start = self._end_start = 0  # the queue, counted like slots
        self._current_episode = self._whole_from = 0
        self._generator = torch.Generator().manual_seed(seed)

    def _place(self, storage: str, num_bytes: int) -> torch.device:
        """Where frames stay."""
        host = torch.device("cpu")
        if storage == "auto" and self._device.type != "cpu":
            return self._device if num_bytes <= DEVICE_SHARE * available_memory(self._device) else host
        return host if storage == "host" else self._device

    @property
    def num_windows(self) -> int:
        """How many windows can be drawn now."""
        return self._end_start - self._first_start

    @property
    def num_bytes(self) -> int:
        """Bytes of all storage, whether filled yet or not."""
        return sum(t.numel() * t.element_size() for t in self._storage())

    def add(self, time_step: dm_env.TimeStep, action: np.ndarray | None) -> None:
        """Store `time_step` and the action that led to it (None at an episode's first step)."""
        slot = self._num_slots
        if time_step.first():
            self._current_episode = slot
        i = slot % self.capacity
        self._frames[i] = torch.from_numpy(np.ascontiguousarray(time_step.observation[-RGB:]))
        self._episode_starts[i] = self._current_episode
        if not time_step.first():
            self._actions[i] = torch.as_tensor(action)
            self._rewards[i] = time_step.reward
            self._discounts[i] = time_step.discount
        self._num_slots += 1
        start = slot - self.n_step
        if (
            start >= self._current_episode
            and max(start - self._num_stacked + 1, self._current_episode) >= self._whole_from
        ):
            self._starts[self._end_start % self.capacity] = start
            self._end_start += 1
        self._forget_overwritten()

    def _forget_overwritten(self) -> None:
        oldest = self._num_slots - self.capacity
        while self._first_start < self._end_start:
            start = int(self._starts[self._first_start % self.capacity])
            episode = int(self._episode_starts[start % self.capacity])
            if start >= oldest and max(start - self._num_stacked + 1, episode) >= oldest:
                return
            self._first_start += 1

    def sample(self) -> Batch:
        """Draw `batch_size` windows uniformly with replacement, on the learner's device.

        Raises:
            IndexError: when no window is complete yet.
        """
        return self._draw(self.batch_size, self._generator)

    def peek(self, num_windows: int, seed: int) -> Batch:
        """Draw `num_windows` by random numbers of their own: what `sample` draws next does not change.

        Raises:
            IndexError: when no window is complete yet.
        """
        return self._draw(num_windows, torch.Generator().manual_seed(seed))

    def _draw(self, num_windows: int, generator: torch.Generator) -> Batch:
        if self.num_windows == 0:
            raise IndexError(f"the replay holds no window of {self.n_step} steps yet")
        draw = torch.randint(self._first_start, self._end_start, (num_windows,), generator=generator)
        return self.gather(self._starts[draw % self.capacity])

    def gather(self, starts: Tensor) -> Batch:
        """The windows that begin at slots `starts` (B,) int64, as a batch."""
        episodes = self._episode_starts[starts % self.capacity]
        reward, discount = torch.zeros(len(starts)), torch.ones(len(starts))
        for k in range(1, self.n_step + 1):
            i = (starts + k) % self.capacity
            reward += discount * self._rewards[i]
            discount *= self.gamma * self._discounts[i]
        batch = Batch(
            obs=self._stack(starts, episodes),
            action=self._actions[(starts + 1) % self.capacity],
            reward=reward,
            discount=discount,
            next_obs=self._stack(starts + self.n_step, episodes),
        )
        return Batch(*(field.to(self._device, non_blocking=True) for field in batch))

    def _stack(self, slots: Tensor, episodes: Tensor) -> Tensor:
        """Frames (B, 3 T, H, W) up to `slots`, an episode's first frame repeated before its start."""
        back = torch.arange(self._num_stacked - 1, -1, -1)
        index = torch.maximum(slots[:, None] - back, episodes[:, None]) % self.capacity
        frames = torch.empty(
            (index.numel(), self._flat_frames.shape[1]),
            dtype=torch.uint8,
            device=self._frames.device,
            pin_memory=self._device.type == "cuda" and self._frames.device.type == "cpu",
        )
        # whole frames, copied each in a piece: nine times as fast on a CPU as indexing with four dimensions
        torch.index_select(self._flat_frames, 0, index.flatten().to(self._frames.device), out=frames)
        return frames.view(len(slots), -1, *self._frames.shape[2:])

    @property
    def num_slots(self) -> int:
        """How many slots were ever filled."""
        return self._num_slots

    @property
    def oldest_slot(self) -> int:
        """The oldest slot that is still held."""
        return max(0, self._num_slots - self.capacity)

    def export(self, first: int, end: int) -> dict[str, np.ndarray]:
        """Slots first..end-1, all still held, as arrays by name, oldest first: what `restore` takes."""
        i = torch.arange(first, end) % self.capacity
        return {name: storage[i.to(storage.device)].cpu().numpy() for name, storage in self._columns().items()}

    def state_dict(self) -> dict[str, Any]:
        """Counters and random state; what the slots hold is exported apart."""
        return {
            "num_slots": self._num_slots,
            "first_start": self._first_start,
            "end_start": self._end_start,
            "current_episode": self._current_episode,
            "generator": self._generator.get_state(),
        }

    def restore(self, state: dict[str, Any], parts: Iterable[tuple[int, dict[str, np.ndarray]]]) -> None:
        """Become the replay that `state_dict` and `export` saved.

        Args:
            state: from `state_dict`.
            parts: first slot and arrays of stretches of slots, oldest first. Where slots are missing, the
                windows that need them cannot be drawn; everything else is as before.
        """
        self._num_slots, self._current_episode = state["num_slots"], state["current_episode"]
        self._generator.set_state(state["generator"])
        starts: list[int] = []
        expected = self._whole_from = self.oldest_slot
        for first, arrays in parts:
            if first > expected:
                self._whole_from = first  # slots are missing before it
            expected = max(expected, first + len(arrays["episode_starts"]))
            slots = torch.arange(max(first, self.oldest_slot), max(expected, self.oldest_slot))
            for name, storage in self._columns().items():
                rows = torch.from_numpy(arrays[name])[slots - first]
                storage[(slots % self.capacity).to(storage.device)] = rows.to(storage.device)
            starts += self._window_starts(slots)
        self._end_start = state["end_start"]
        self._first_start = self._end_start - len(starts)
        self._starts[torch.arange(self._first_start, self._end_start) % self.capacity] = torch.tensor(
            starts, dtype=torch.int64
        )

    def _window_starts(self, last_slots: Tensor) -> list[int]:
        """Starts of the windows that end at `last_slots` and need no slot that is missing."""
        episodes = self._episode_starts[last_slots % self.capacity]
        starts = last_slots - self.n_step
        first_needed = torch.maximum(starts - self._num_stacked + 1, episodes)
        return starts[(starts >= episodes) & (first_needed >= self._whole_from)].tolist()

    def _columns(self) -> dict[str, Tensor]:
        """What a slot holds."""
        return {
            "frames": self._frames,
            "actions": self._actions,
            "rewards": self._rewards,
            "discounts": self._discounts,
            "episode_starts": self._episode_starts,
        }

    def _storage(self) -> tuple[Tensor, ...]:
        return (*self._columns().values(), self._starts)


def bytes_per_step(frame_shape: tuple[int, ...], action_dim: int) -> int:
    """Bytes that one slot takes: frame, action, reward, discount and two int64 indices."""
    return int(np.prod(frame_shape)) + 4 * action_dim + 4 + 4 + 8 + 8


def available_memory(device: torch.device) -> int:
    """Bytes that may still be taken on `device`: what it reports free, or less where a container limits the host's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    for limit, used in CGROUP_FILES:
        if (CGROUP / limit).exists() and (CGROUP / limit).read_text().strip().isdigit():
            free = min(free, int((CGROUP / limit).read_text()) - int((CGROUP / used).read_text()))
    return free
