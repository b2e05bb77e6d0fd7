"""Which agents, tasks and parts go together."""

from __future__ import annotations

from typing import Any

import hydra
import torch
from dm_env import specs
from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.agents.base import BaseAgent
from drq_sn.envs.specs import Specs
from drq_sn.envs.wrappers import PixelStack
from drq_sn.report.types import format_value

NO_PART = {  # group of an actor-critic's part -> class of its choice `none`
    "head": "drq_sn.networks.heads.NoHead",
    "penalty": "drq_sn.agents.penalties.NoPenalty",
    "augmentation": "drq_sn.training.augmentations.Identity",
}
PERIODS = {"actor_update_every_steps", "copy_target_every_steps"}  # of an agent, in steps with an update


def require_suitable(cfg: DictConfig, env: PixelStack | Specs) -> None:
    """Raise `InvalidInput` unless the agent takes the actions of `env` and the parts that `cfg` chooses."""
    agent = str(cfg.agent._target_).rpartition(".")[-1]
    try:
        agent_class = hydra.utils.get_object(str(cfg.agent._target_))
    except Exception as error:  # whatever its import raises
        raise validation.InvalidInput(
            f"agent._target_ must be a class or function of this option, got {cfg.agent._target_!r}"
        ) from error
    takes_discrete = getattr(agent_class, "has_discrete_actions", False)
    if takes_discrete != is_discrete(env):
        needed, others = ("discrete", "continuous") if takes_discrete else ("continuous", "discrete")
        raise validation.InvalidInput(f"task must have {needed} actions for {agent}; those of {cfg.task} are {others}")
    step = validation.integer("update_every_steps", cfg.update_every_steps)
    for name in sorted(PERIODS & cfg.agent.keys()):
        validation.multiple(f"agent.{name}", cfg.agent[name], step, "update_every_steps", minimum=1)
    if takes_discrete:
        _require(f"num_eval_processes must be 1 for {agent}, which draws actions in turn", cfg.num_eval_processes, 1)
        for option, neutral in (("conv_layers", "none"), ("trunk", False)):
            what = f"normalizer.{option} must be {format_value(neutral)} for {agent}, whose layers are counted together"
            _require(what, cfg.normalizer.get(option, neutral), neutral)
        _require(f"encoder_dtype must be float32 for {agent}", cfg.encoder_dtype, "float32")
    for group, target in NO_PART.items():
        chosen = cfg[group]._target_
        if takes_discrete:
            _require(f"{group} must be none for {agent}", chosen, target)
        elif group == "head" and chosen == target:
            raise validation.InvalidInput(f"head must have layers for {agent}, got none")


def _require(what: str, value: Any, needed: Any) -> None:
    if value != needed:
        raise validation.InvalidInput(f"{what}, got {format_value(value)}")


def is_discrete(env: PixelStack | Specs) -> bool:
    """Whether actions are the numbers of a list."""
    return isinstance(env.action_spec(), specs.DiscreteArray)


def action_layout(env: PixelStack) -> tuple[int, torch.dtype]:
    """Numbers per action in a replay, and their type."""
    return (1, torch.int64) if is_discrete(env) else (env.action_spec().shape[0], torch.float32)


def require_actor(agent: BaseAgent) -> ActorCriticAgent:
    """Return `agent` if it has an actor, else raise `InvalidInput`."""
    if not isinstance(agent, ActorCriticAgent):
        raise validation.InvalidInput(f"run must be one of an agent with an actor, got {type(agent).__name__}")
    return agent
