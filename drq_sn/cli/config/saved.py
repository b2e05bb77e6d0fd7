"""Runs as data: their saved configurations, which anybody may have written, and what is built from them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.agents.base import TARGET, BaseAgent
from drq_sn.agents.runtime import Eager
from drq_sn.cli.config.build import FLOAT32, build_agent, build_env
from drq_sn.cli.config.older_runs import parse_config
from drq_sn.cli.config.ranges import TRAIN, Check, at_least_1, optional, positive
from drq_sn.cli.config.ranges import seed as check_seed
from drq_sn.cli.config.search_path import cached, config_files
from drq_sn.envs.specs import Specs, parse_specs, specs_of
from drq_sn.envs.wrappers import PixelStack
from drq_sn.runs import provenance
from drq_sn.runs.files import load_weights
from drq_sn.runs.reader import CONFIG
from drq_sn.validation import InvalidInput

TARGET_KEY = "_target_"
NOT_OF_RUNS = {"launcher"}  # groups of `cfg/` whose targets no run has
GROUPS = ("env", "agent", "head", "normalizer", "penalty", "lr_schedule", "augmentation", "replay")
VALUES: dict[str, Check] = {  # what is read besides the groups
    "task": validation.text,
    "seed": check_seed,
    "action_repeat": at_least_1,
    "num_train_frames": at_least_1,
    "batch_size": at_least_1,
    "update_every_steps": at_least_1,
    "lr": positive,
    "env_limit_seconds": optional(TRAIN["env_limit_seconds"]),
}


def read_config(run_dir: Path) -> DictConfig:
    """The configuration that a run saved; nothing in it is resolved, imported or called.

    Raises:
        InvalidInput: if `run_dir` is not a run directory, or the file is damaged or not a resolved configuration.
    """
    path = Path(run_dir) / CONFIG
    try:
        if not path.is_file():
            raise InvalidInput(
                f"{run_dir} is not a run directory (no {CONFIG}); a run directory is runs/TASK/AGENT_HEAD_NORM/seed_N"
            )
        text = path.read_text()
    except OSError as error:
        raise InvalidInput(f"{path}: not readable ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: not readable as YAML ({error.reason})") from None
    return OmegaConf.create(parse_config(text, path))


def load_config(run_dir: Path, trusted: Sequence[str] = ()) -> DictConfig:
    """The configuration of a run, to build its environment and agent from.

    Args:
        run_dir: run directory.
        trusted: targets that it may name besides those of `cfg/`.

    Raises:
        InvalidInput: if it cannot be read, is incomplete, or names a target that is neither in `cfg/` nor trusted.
    """
    path = Path(run_dir) / CONFIG
    cfg = read_config(run_dir)
    _require_trusted(path, cfg, trusted)
    with _described(path, "the run"):
        for name in GROUPS:
            group = OmegaConf.select(cfg, name)
            if not isinstance(group, DictConfig):
                raise InvalidInput(f"{name} must be a group of options, got {group!r}")
        for name, check in VALUES.items():
            check(name, cfg.get(name))
    return cfg


def saved_length(run_dir: Path) -> int:
    """`num_train_frames` of the run in `run_dir`; `InvalidInput` if its configuration is damaged."""
    with _described(run_dir / CONFIG, "the run"):
        return validation.integer("num_train_frames", read_config(run_dir).get("num_train_frames"))


def find_targets(options: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything in a tree of options that makes building it import a module.

    These are `_target_` and, in `task` and `env`, values MODULE:NAME, from which Gymnasium imports MODULE.
    """
    if isinstance(options, Mapping):
        for key, child in options.items():
            yield from [(f"{name}{key}", child)] if key == TARGET_KEY else find_targets(child, f"{name}{key}.")
    elif isinstance(options, list):
        for index, child in enumerate(options):
            yield from find_targets(child, f"{name}{index}.")
    elif isinstance(options, str) and ":" in options and name.split(".")[0] in ("task", "env"):
        yield name.rstrip("."), options


@cached
def _known_targets() -> frozenset[str]:
    """Every target that a run may have: those of `cfg/`, and of directories that the command line names."""
    files = (path for path in config_files() if path.parent.name not in NOT_OF_RUNS)
    return frozenset(target for file in files for _, target in find_targets(yaml.safe_load(file.read_text())))


def _require_trusted(path: Path, cfg: DictConfig, trusted: Sequence[str]) -> None:
    names = list(trusted) if isinstance(trusted, Iterable) and not isinstance(trusted, str) else [trusted]
    if not all(isinstance(name, str) for name in names):
        raise InvalidInput(f"trusted must be names such as [my_robot.Gripper], got {names}")
    for option, target in find_targets(OmegaConf.to_container(cfg)):
        if target not in [*_known_targets(), *names]:
            raise InvalidInput(
                f"{path}: {option} must be a target of cfg/ or be named in trusted=[...] (docs/runs.md), got {target!r}"
            )


@contextlib.contextmanager
def _described(path: Path, what: str, *errors: type[Exception]) -> Iterator[None]:
    """One line that names `path` for whatever is wrong with it: its options, or `errors` while `what` is built."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    except errors as error:
        raise InvalidInput(f"{path}: {what} cannot be built from it ({validation.describe(error)})") from error


def load_env(run_dir: str | Path, seed: int = 0, trusted: Sequence[str] = ()) -> PixelStack:
    """The environment of a run, with its action repeat, camera and frames.

    Args:
        run_dir: run directory; unless trusted, it is data, from which nothing is imported or called.
        seed: seed of the episodes.
        trusted: names of your own functions and classes that it may use, such as `my_robot.Gripper`.

    Raises:
        InvalidInput: if the directory holds no run, or its environment cannot be built.
    """
    return build_saved_env(Path(run_dir), load_config(Path(run_dir), trusted), seed)


def load_agent(
    run_dir: str | Path, device: str = "auto", weights: str = "last", trusted: Sequence[str] = ()
) -> BaseAgent:
    """The trained agent of a run, ready to `act` and `predict`; the run may be unfinished.

    No simulator and no OpenGL is needed, unless the weights are of a version that did not keep the shapes of
    observations and actions.

    Args:
        run_dir: run directory; unless trusted, it is data, from which nothing is imported or called.
        device: where it goes: `auto`, `cpu`, `cuda`, ...
        weights: those of the `last` or of the `best` evaluation.
        trusted: names of your own functions and classes that it may use, such as `my_heads.FunnelHead`.

    Raises:
        InvalidInput: if the directory holds no run, or no intact weights.
    """
    return load_agent_and_frame(run_dir, device, weights, trusted)[0]


def load_agent_and_frame(
    run_dir: str | Path, device: str, weights: str, trusted: Sequence[str] = ()
) -> tuple[BaseAgent, int]:
    """See `load_agent`; also the frame to which the agent was trained."""
    cfg = load_config(Path(run_dir), trusted)
    chosen = provenance.select_device(device)
    saved = load_weights(Path(run_dir), chosen, weights)
    if "specs" in saved:
        specs = parse_specs(f"{run_dir}: specs", saved["specs"])
    else:
        with contextlib.closing(build_saved_env(Path(run_dir), cfg, seed=0)) as env:
            specs = specs_of(env)
    agent = build_saved_agent(Path(run_dir), cfg, specs, chosen)
    try:
        agent.networks.load_state_dict(saved["networks"])
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise InvalidInput(f"{run_dir}: its weights do not fit its {CONFIG}") from error
    return agent, saved["frame"]


def build_saved_env(run_dir: Path, cfg: DictConfig, seed: int) -> PixelStack:
    """`build_env` from the configuration `cfg` of a run; `InvalidInput` if its options do not fit the environment."""
    with _described(run_dir / CONFIG, "its environment", AssertionError, LookupError, TypeError, ValueError):
        return build_env(cfg, seed)


def build_saved_agent(run_dir: Path, cfg: DictConfig, env: PixelStack | Specs, device: torch.device) -> BaseAgent:
    """`build_agent` from the configuration `cfg` of a run; `InvalidInput` if its options do not fit the classes."""
    with _described(run_dir / CONFIG, "its agent", Exception):  # foreign values can raise anything
        here = DictConfig(OmegaConf.merge(cfg, {"encoder_dtype": FLOAT32}))  # which may not be where it was trained
        return build_agent(here, env, device, Eager())


def initialize_agent(agent: BaseAgent, cfg: DictConfig) -> dict[str, Any]:
    """Copy the networks of the run `cfg.init_from`, if there is one, to `agent`; no random numbers are drawn.

    The other run may use the targets of this one and those of `cfg/`.

    Returns:
        The run, the networks and their frame, for `run.json`; empty without `init_from`.

    Raises:
        InvalidInput: if it is not a run with weights that fit.
    """
    if cfg.init_from is None:
        return {}
    trusted = [target for _, target in find_targets(OmegaConf.to_container(cfg))]
    with torch.random.fork_rng(devices=[]):
        source, frame = load_agent_and_frame(str(cfg.init_from), "cpu", "last", trusted)
    online = [name for name in agent.networks if not name.endswith(TARGET)]
    agent.initialize_(source.networks, *(online if cfg.init_networks == "all" else ["encoder"]))
    return {"init_from": {"run": str(cfg.init_from), "networks": cfg.init_networks, "frame": frame}}
