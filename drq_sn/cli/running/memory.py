"""The host memory that a run needs, estimated before anything large is allocated."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from drq_sn import validation
from drq_sn.agents.runtime import Eager
from drq_sn.cli.config.build import build_agent, replay_capacity
from drq_sn.cli.config.suitability import action_layout
from drq_sn.envs.wrappers import PixelStack
from drq_sn.runs.checkpoints import PART_SLOTS
from drq_sn.training.limits import available_memory
from drq_sn.training.replay import bytes_per_step

META, HOST = torch.device("meta"), torch.device("cpu")


def require_memory(cfg: DictConfig, env: PixelStack, device: torch.device) -> None:
    """Raise `InvalidInput` unless the host has enough free memory for the run."""
    parts, free = memory_parts(cfg, env, device), available_memory(HOST)
    if sum(parts.values()) > free:
        sizes = ", ".join(f"{name} {num_bytes / 1e9:.2f}" for name, num_bytes in parts.items())
        raise validation.InvalidInput(
            f"the run needs at least {sum(parts.values()) / 1e9:.2f} GB of memory ({sizes}), {free / 1e9:.2f} GB are "
            "free; reduce replay.capacity_steps, batch_size or head.width"
        )


def memory_parts(cfg: DictConfig, env: PixelStack, device: torch.device) -> dict[str, int]:
    """Bytes of host memory by purpose; a lower bound, because activations are not counted.

    On an accelerator, networks and batches are not on the host; the replay is counted unless `replay.storage` may
    put it on the device, where it checks its size itself.
    """
    with META:
        agent = build_agent(cfg, env, META, Eager())
    weights = _num_bytes([*agent.networks.parameters(), *agent.networks.buffers()])
    trained = _num_bytes(p for optimizer in agent.optimizers.values() for p in optimizer.param_groups[0]["params"])
    obs_shape, capacity = env.observation_spec().shape, replay_capacity(cfg)
    slot = bytes_per_step(env.frame_shape, *action_layout(env))
    parts = {"a checkpoint's copy": weights + 2 * trained + 2 * min(capacity, PART_SLOTS) * slot}  # 2: Adam's moments
    if device.type == HOST.type or cfg.replay.storage == "host":
        parts["replay"] = capacity * slot
    if device.type == HOST.type:
        parts["networks and optimizers"] = weights + 3 * trained  # gradients and moments
        parts["batches"] = 2 * cfg.batch_size * int(np.prod(obs_shape)) * (1 + 4)  # obs and next_obs: uint8, float32
    return parts


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
