"""From a configuration to objects: the only place that reads it."""

from __future__ import annotations

import functools
import re
import warnings
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from drq_sn import validation
from drq_sn.agents.actor_critic import Augmentation, Components
from drq_sn.agents.base import BaseAgent, BaseComponents
from drq_sn.agents.dqn import QComponents
from drq_sn.agents.penalties import Penalty
from drq_sn.agents.runtime import Eager, Runtime
from drq_sn.cli.config.suitability import action_layout, is_discrete, require_suitable
from drq_sn.envs import make_env
from drq_sn.envs.factory import SUITE
from drq_sn.envs.specs import Specs
from drq_sn.envs.wrappers import PixelStack, random_state_to_json
from drq_sn.networks.actor_critic import HeadFactory
from drq_sn.networks.normalizers.base import Normalizer
from drq_sn.training.limits import has_bfloat16
from drq_sn.training.loop import Loop
from drq_sn.training.replay import UniformReplay

NETWORKS = ("actor", "critic")
ENCODER_DTYPES = FLOAT32, BFLOAT16 = "float32", "bfloat16"
RESERVED = ("task", "seed", "maker", "action_repeat")  # arguments of `make_env` that are not options of `env`
CALL_FAILED = "Error in call to target"  # how Hydra begins, where a class itself failed
SPARE_EPISODES = 16  # slots for first frames, beside those that num_train_frames needs


def config_dir() -> Path:
    """Folder of the Hydra tree: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "cfg"
    return inside if inside.is_dir() else package.parent / "cfg"


def resolve(cfg: DictConfig) -> None:
    """Replace every interpolation in `cfg` by its value.

    Raises:
        InvalidInput: if one refers to an option that does not exist.
    """
    try:
        OmegaConf.resolve(cfg)
    except OmegaConfBaseException as error:
        raise validation.InvalidInput(f"${{...}} must name an option: {validation.first_line(error)}") from None


def instantiate(node: DictConfig, *arguments: Any, **options: Any) -> Any:
    """Build the class that `node` names, from its options and the given ones.

    Raises:
        InvalidInput: that of the class; an option that begins with a dot is one of the part that the class is for.
    """
    try:
        return hydra.utils.instantiate(node, *arguments, **options)
    except InstantiationException as error:
        cause, key = error.__cause__, re.search(r"full_key: (\S+)", str(error))
        if isinstance(cause, validation.InvalidInput):
            raise validation.InvalidInput(f"{key[1]}{cause}") if key and str(cause).startswith(".") else cause from None
        if isinstance(cause, (TypeError, ValueError)):  # an option that the class does not take
            raise validation.InvalidInput(f"{node._target_}: {validation.first_line(cause)}") from error
        if str(error).startswith(CALL_FAILED):
            raise
        target = re.search(r"arget '([^']+)'", str(error))
        raise validation.InvalidInput(
            f"{f'{key[1]}.' if key else ''}_target_ must be a class or function of this option, "
            f"got {(target[1] if target else node._target_)!r}"
        ) from error


def build_env(cfg: DictConfig, seed: int | None = None) -> PixelStack:
    """The environment that `cfg` describes, from the run's seed unless another is given."""
    return partial_env(cfg)(seed=cfg.seed if seed is None else seed)


def partial_env(cfg: DictConfig) -> functools.partial[PixelStack]:
    """`build_env` as plain data, which another process can be sent."""
    env: Any = OmegaConf.to_container(cfg.env, resolve=True)
    options = {str(name): value for name, value in env.items()}
    maker = options.pop("_target_", SUITE)
    for name in RESERVED:
        if name in options:
            raise validation.InvalidInput(f"env.{name} is not an option; env._target_ names the environment")
    return functools.partial(make_env, cfg.task, maker=maker, action_repeat=cfg.action_repeat, **options)


def random_states_of(entropy: int | list[int], num_episodes: int) -> list[str]:
    """What independent episodes follow from (see `Environment`), fixed by `entropy`."""
    generators = (
        np.random.RandomState(np.random.MT19937(s)) for s in np.random.SeedSequence(entropy).spawn(num_episodes)
    )
    return [random_state_to_json(generator.get_state(legacy=False)) for generator in generators]


def build_agent(
    cfg: DictConfig, env: PixelStack | Specs, device: torch.device, runtime: Runtime | None = None
) -> BaseAgent:
    """A freshly initialized agent for `env`, in `cfg`'s runtime unless another is given.

    Random numbers come from torch's global generator.

    Raises:
        InvalidInput: for an invalid option, or one that the agent or the runtime cannot have.
    """
    runtime = runtime or instantiate(cfg.runtime)
    augmentation: Augmentation = instantiate(cfg.augmentation)
    if "pad" in cfg.augmentation:  # a larger shift would leave nothing of the image
        largest = env.observation_spec().shape[-1] - 1
        validation.integer("augmentation.pad", cfg.augmentation.pad, maximum=largest)
    penalty: Penalty = instantiate(cfg.penalty)
    if runtime.captures and not augmentation.capturable:
        if not runtime.is_optional:
            raise validation.InvalidInput(
                f"augmentation: {cfg.augmentation._target_} draws on the host, which a CUDA graph cannot; "
                "use runtime=eager"
            )
        runtime = Eager()
    if runtime.compiles and not penalty.compilable:
        raise validation.InvalidInput(
            f"penalty: {cfg.penalty._target_} differentiates twice, which torch.compile cannot; use runtime=eager"
        )
    normalizer: Normalizer = instantiate(cfg.normalizer)
    if runtime.compiles and not normalizer.compilable:
        raise validation.InvalidInput(
            f"normalizer: {cfg.normalizer._target_} gives other results with torch.compile; use runtime=eager"
        )
    shared = {
        "obs_shape": tuple(env.observation_spec().shape),
        "normalizer": normalizer,
        "lr": cfg.lr,
        "lr_schedule": instantiate(cfg.lr_schedule),
        "runtime": runtime,
        "device": device,
    }
    require_suitable(cfg, env)
    components: BaseComponents
    if is_discrete(env):
        components = QComponents(num_actions=env.action_spec().num_values, **shared)
    else:
        components = Components(
            action_dim=env.action_spec().shape[0],
            actor_head=build_head(cfg.head, "actor"),
            critic_head=build_head(cfg.head, "critic"),
            penalty=penalty,
            augmentation=augmentation,
            encoder_dtype=_encoder_dtype(cfg.encoder_dtype, device),
            **shared,
        )
    agent: BaseAgent = instantiate(cfg.agent, components)
    if not isinstance(agent, BaseAgent):
        raise validation.InvalidInput(f"agent._target_ must be an agent, got {cfg.agent._target_!r}")
    if normalizer.is_idle and device.type != "meta":  # memory is estimated with one that is never used
        warnings.warn(
            f"normalizer: {cfg.normalizer._target_} acts on no layer: normalizer.layers={normalizer.layers} selects "
            "none of the heads; the run is not normalized",
            stacklevel=2,
        )
    return agent


def _encoder_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """`Components.encoder_dtype` by its name, if `device` has fast instructions for it."""
    if validation.choice("encoder_dtype", name, ENCODER_DTYPES) == BFLOAT16 and not has_bfloat16(device):
        raise validation.InvalidInput(
            f"encoder_dtype must be {FLOAT32} on this {device.type} device, which has no bfloat16 instructions, "
            f"got {BFLOAT16}"
        )
    return torch.bfloat16 if name == BFLOAT16 else None


def build_head(head: DictConfig, network: str) -> HeadFactory:
    """Factory of the head of the `actor` or `critic`: the options of `head`, then those of `head.{network}`."""
    shared = OmegaConf.masked_copy(head, [str(key) for key in head if key not in NETWORKS])
    if "_target_" not in head:
        raise validation.InvalidInput("head._target_ must name the class of the head")
    if not OmegaConf.is_dict(head.get(network)):
        raise validation.InvalidInput(f"head.{network} must hold the arguments of the {network}'s head alone, or {{}}")
    factory: HeadFactory = instantiate(DictConfig(OmegaConf.merge(shared, head[network]), key="head"))
    return factory


def build_replay(cfg: DictConfig, env: PixelStack, device: torch.device) -> UniformReplay:
    """A replay no larger than the run can fill."""
    action_dim, action_dtype = action_layout(env)
    return UniformReplay(
        tuple(env.observation_spec().shape),
        action_dim,
        num_channels=env.frame_shape[0],
        action_dtype=action_dtype,
        capacity_steps=replay_capacity(cfg),
        batch_size=cfg.batch_size,
        n_step=cfg.n_step,
        gamma=cfg.gamma,
        device=device,
        storage=cfg.replay.storage,
        keep_truncated=cfg.replay.keep_truncated,
        seed=cfg.seed,
    )


def replay_capacity(cfg: DictConfig) -> int:
    """Slots of the run's replay: `replay.capacity_steps`, but no more than the run fills with episodes of 100 steps.

    An episode needs one more slot than it has steps; a run with shorter episodes overwrites its oldest steps.
    """
    num_steps = cfg.num_train_frames // cfg.action_repeat
    fillable = num_steps + num_steps // 100 + SPARE_EPISODES
    return int(min(validation.integer("replay.capacity_steps", cfg.replay.capacity_steps), fillable))


def build_loop(cfg: DictConfig) -> Loop:
    """The loop that `cfg` describes."""
    validation.integer("num_random_steps", cfg.num_random_steps, minimum=cfg.n_step)  # the first update needs them
    return Loop(
        num_train_frames=cfg.num_train_frames,
        action_repeat=cfg.action_repeat,
        num_random_steps=cfg.num_random_steps,
        update_every_steps=cfg.update_every_steps,
        eval_every_frames=cfg.eval_every_frames,
        max_diverged_episodes=cfg.max_diverged_episodes,
        seed=cfg.seed,
    )
