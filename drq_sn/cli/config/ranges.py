"""Valid values of the options that no class takes; a class checks its own options when it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.runs.files import WEIGHTS

Check = Callable[[str, Any], Any]
"""Name and value of an option -> the value; raises `InvalidInput`."""
LARGEST_SEED = 2**32 - 1
LONGEST_WAIT = 1e6  # seconds; threads cannot wait for more than about 1e9

at_least_0 = partial(validation.integer, minimum=0)
at_least_1 = partial(validation.integer, minimum=1)
positive = partial(validation.real, low=0, open_low=True)
seed = partial(validation.integer, minimum=0, maximum=LARGEST_SEED)


def optional(check: Check) -> Check:
    """`check`, except that null is valid too."""
    return lambda name, value: None if value is None else check(name, value)


TRAIN: dict[str, Check] = {
    "seed": seed,
    "fresh": validation.boolean,
    "init_networks": partial(validation.choice, valid=("all", "encoder")),
    "keep_checkpoint": validation.boolean,
    "run_dir": optional(validation.text),
    "checkpoint_every_seconds": positive,
    "checkpoint_every_frames": optional(at_least_1),
    "env_limit_seconds": partial(validation.real, low=0, high=LONGEST_WAIT, open_low=True),
    "num_eval_episodes": at_least_1,
    "num_eval_processes": optional(at_least_1),
    "diagnose_states": at_least_0,
    "video_every_frames": at_least_0,
}
EXPORT: dict[str, Check] = {"seed": seed, "weights": partial(validation.choice, valid=WEIGHTS)}
EVALUATE: dict[str, Check] = {"episodes": at_least_1, "video": validation.boolean, **EXPORT}
REPORT: dict[str, Check] = {"frame": optional(at_least_0), "num_bootstrap": at_least_1, "seed": seed}


def check_ranges(cfg: DictConfig, ranges: Mapping[str, Check]) -> None:
    """Raise `InvalidInput` for the first option of `cfg` that is out of its range."""
    for name, check in ranges.items():
        check(name, cfg[name])
