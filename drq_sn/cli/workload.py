"""The rows of a profile or benchmark: their options, what they compute on, and the worker process of each."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import drq_sn
from drq_sn import validation
from drq_sn.agents.base import BaseAgent
from drq_sn.agents.runtime import Eager, Runtime
from drq_sn.cli.config.build import build_agent, build_env, build_replay
from drq_sn.cli.config.overrides import compose_config, not_composed, search_path_overrides, take_directories
from drq_sn.cli.config.ranges import TRAIN, check_ranges
from drq_sn.cli.config.search_path import choices_of, use_directories
from drq_sn.cli.running.checkpointing import seed_everything
from drq_sn.cli.running.lock import move_to_backup
from drq_sn.cli.running.run_dir import make_folder
from drq_sn.envs.wrappers import PixelStack
from drq_sn.networks.normalizers.power_iteration import WARM_UP_UPDATES
from drq_sn.output import tolerate_broken_output
from drq_sn.profiling.profiler import AgentProfiler
from drq_sn.profiling.turns import Row, serve
from drq_sn.runs import provenance
from drq_sn.training import cpu
from drq_sn.training.loop import uniform_action
from drq_sn.training.replay import UniformReplay

NUM_REAL_STEPS = 100  # rendered once, then stored over and over until the replay is full
at_least_real_steps = partial(validation.integer, minimum=NUM_REAL_STEPS)


def apply_device_settings(cfg: DictConfig, device: torch.device) -> None:
    """Replace each option that is null by the default for `device` under `device_settings`."""
    for name, default in cfg.device_settings[device.type].items():
        if cfg[name] is None:
            cfg[name] = default


def to_list(value: Any) -> list[Any]:
    """The distinct values of a list option; a single value is a list of one."""
    return list(dict.fromkeys(value if OmegaConf.is_list(value) else [value]))


def check_choices(cfg: DictConfig, groups: Mapping[str, str], overrides: Sequence[str] = ()) -> None:
    """Make each of the list options `groups` (option -> Hydra group) a list of choices of its group.

    Raises:
        InvalidInput: if a choice is unknown, there is none, or `overrides` set the group itself.
    """
    for option, group in groups.items():
        for override in overrides:
            if override.startswith(f"{group}="):
                raise validation.InvalidInput(
                    f"{override}: this command takes a list, {option}=[{override.split('=', 1)[1]}]"
                )
        cfg[option] = to_list(cfg[option])
        validation.integer(f"number of {option}", len(cfg[option]))
        for name in cfg[option]:
            validation.choice(option, name, choices_of(group))


@contextlib.contextmanager
def results_directory(path: Path, write_tables: Callable[[Path], str]) -> Iterator[Path]:
    """Create the directory `path`, moving earlier results to a backup; at the end, write and print the tables.

    `write_tables` returns them as text; if there are results, it is also called when a signal ends the block.

    Raises:
        InvalidInput: if the directory cannot be made or written.
    """
    make_folder(path, "out_dir")
    move_to_backup(path)
    try:
        yield path
    finally:
        if any(path.iterdir()):
            print(write_tables(path))
            print(f"results in {path}")


def build_row(config_name: str, columns: dict[str, Any], overrides: Sequence[str], **prepare: Any) -> Row:
    """A row of a profile or benchmark: `columns` are the options that tell it from the others, `overrides` all others.

    `prepare` holds arguments of `AgentProfiler.prepare`.
    """
    options = [*search_path_overrides(), *overrides, *(f"{name}={value}" for name, value in columns.items())]
    command = [sys.executable, "-m", "drq_sn.cli.workload", config_name, *options]
    return Row(columns, command, Path(drq_sn.__file__).parents[1], prepare)


def row_config(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The resolved configuration of one row; the last of repeated overrides wins."""
    cfg = compose_config(config_name, overrides)
    cfg.run_dir = None
    cfg.num_train_frames = cfg.action_repeat * (cfg.replay_steps + 1)
    OmegaConf.resolve(cfg)
    return cfg


def check_row(config_name: str, columns: Mapping[str, Any], overrides: Sequence[str]) -> BaseAgent:
    """Build the agent of a row, without memory for its weights, and return it.

    Raises:
        InvalidInput: if it cannot be built.
    """
    options = [f"{name}={value}" for name, value in columns.items()]
    try:
        cfg = row_config(config_name, [*overrides, *options])
    except (HydraException, OmegaConfBaseException) as error:
        raise not_composed(error, " ".join(options)) from None
    check_ranges(cfg, TRAIN)
    meta = torch.device("meta")
    with contextlib.closing(build_env(cfg)) as env, meta:
        return build_agent(cfg, env, meta)


def build_profiler(config_name: str, overrides: Sequence[str]) -> AgentProfiler:
    """What a worker serves: the profiler of one row, with a replay full of rendered steps."""
    others, directories = take_directories(overrides)
    use_directories(directories)
    cfg = row_config(config_name, others)
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    seed_everything(cfg.seed)
    with contextlib.closing(build_env(cfg)) as env:
        replay = build_replay(cfg, env, device)
        obs = fill(replay, env, cfg.replay_steps)
    build = partial(build_warm_agent, cfg, env, device)  # needs the specs of `env` only
    return AgentProfiler(build, partial(build, Eager()), replay, obs, device)


def build_warm_agent(
    cfg: DictConfig, env: PixelStack, device: torch.device, runtime: Runtime | None = None
) -> BaseAgent:
    """A new agent past the warm-up of its power iteration, whose updates cost what most updates of a run do."""
    agent = build_agent(cfg, env, device, runtime)
    agent.num_updates = WARM_UP_UPDATES
    return agent


def fill(replay: UniformReplay, env: PixelStack, num_steps: int) -> np.ndarray:
    """Store at least `num_steps` steps, one rendered random episode repeated; return its last observation."""
    random = np.random.default_rng(0)
    episode: list[tuple[Any, np.ndarray | None]] = [(env.reset(), None)]
    for _ in range(NUM_REAL_STEPS):
        action = uniform_action(random, env.action_spec())
        episode.append((env.step(action), action))
    for _ in range(-(-num_steps // NUM_REAL_STEPS)):
        for time_step, led_there in episode:
            replay.add(time_step, led_there)
    return np.asarray(episode[-1][0].observation)


if __name__ == "__main__":
    tolerate_broken_output()
    serve(partial(build_profiler, sys.argv[1], sys.argv[2:]), cpu.release_memory)
