"""Valid values of the options that no class takes; a class checks its own options when it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.runs.files import WEIGHTS

Check = Callable[[str, Any], Any]
"""Name and value of an option -> the value; raises `InvalidInput`."""
LARGEST_SEED = 2**32 - 1
LONGEST_WAIT = 1e6  # seconds; threads cannot wait for more than about 1e9
LONGEST_RETURN = 1000  # steps; the longest episode by default
SMALLEST_IMAGE, LARGEST_IMAGE = 17, 4096  # pixels; smaller ones leave nothing to the encoder's last convolution
MOST_EPISODES, MOST_PROCESSES, MOST_STATES, MOST_RESAMPLES = 10_000, 256, 100_000, 1_000_000

at_least_0 = partial(validation.integer, minimum=0)
at_least_1 = partial(validation.integer, minimum=1)
positive = partial(validation.real, low=0, open_low=True)
seed = partial(validation.integer, minimum=0, maximum=LARGEST_SEED)


def optional(check: Check) -> Check:
    """`check`, except that null is valid too."""
    return lambda name, value: None if value is None else check(name, value)


def run_directory(name: str, value: Any) -> str:
    """`value`, which names a run; `InvalidInput` for null."""
    if value is None:
        raise validation.InvalidInput(f"{name} must be a run directory: {name}=runs/TASK/AGENT_HEAD_NORM/seed_N")
    return str(value)


TRAIN: dict[str, Check] = {
    "task": validation.text,
    "seed": seed,
    "run_suffix": validation.text,
    "fresh": validation.boolean,
    "batch_size": at_least_1,
    "init_networks": partial(validation.choice, valid=("all", "encoder")),
    "keep_checkpoint": validation.boolean,
    "run_dir": optional(validation.path),
    "n_step": partial(validation.integer, maximum=LONGEST_RETURN),
    "env.image_size": optional(partial(validation.integer, minimum=SMALLEST_IMAGE, maximum=LARGEST_IMAGE)),
    "checkpoint_every_seconds": positive,
    "checkpoint_every_frames": optional(at_least_1),
    "env_limit_seconds": partial(validation.real, low=0, high=LONGEST_WAIT, open_low=True),
    "num_eval_episodes": partial(validation.integer, maximum=MOST_EPISODES),
    "num_eval_processes": optional(partial(validation.integer, maximum=MOST_PROCESSES)),
    "diagnose_states": partial(validation.integer, minimum=0, maximum=MOST_STATES),
    "video_every_frames": at_least_0,
}
SAVED_AGENT: dict[str, Check] = {
    "run": run_directory,
    "seed": seed,
    "weights": partial(validation.choice, valid=WEIGHTS),
}
EXPORT: dict[str, Check] = {**SAVED_AGENT, "out": optional(validation.path)}
EVALUATE: dict[str, Check] = {
    **SAVED_AGENT,
    "episodes": partial(validation.integer, maximum=MOST_EPISODES),
    "video": validation.boolean,
}
REPORT: dict[str, Check] = {
    "out": validation.path,
    "frame": optional(at_least_0),
    "num_bootstrap": partial(validation.integer, maximum=MOST_RESAMPLES),
    "seed": seed,
}


def check_ranges(cfg: DictConfig, ranges: Mapping[str, Check]) -> None:
    """Raise `InvalidInput` for the first option of `cfg` that is out of its range."""
    for name, check in ranges.items():
        check(name, OmegaConf.select(cfg, name))
