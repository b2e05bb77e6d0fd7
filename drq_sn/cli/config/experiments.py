"""What the paper ran, by name: cfg/experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra import compose
from omegaconf import OmegaConf

from drq_sn import validation
from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.overrides import initialized

FOLDER = "experiment"


@dataclass(frozen=True)
class Experiment:
    """Runs that make a table or a figure: every task with every variant and seed.

    Attributes:
        name: such as `table1`.
        agent: name of the agent's option.
        tasks: names of tasks, in the paper's order.
        variants: options of heads and normalizers by group: `{"head": "mlp2", "normalizer": "none"}`.
        seeds: seeds.
        num_train_frames: length of every run.
    """

    name: str
    agent: str
    tasks: tuple[str, ...]
    variants: tuple[dict[str, str], ...]
    seeds: tuple[int, ...]
    num_train_frames: int


def names() -> list[str]:
    """Every experiment there is."""
    return sorted(path.stem for path in (config_dir() / FOLDER).glob("*.yaml"))


def load_experiment(name: str) -> Experiment:
    """The experiment `name`.

    Raises:
        InvalidInput: if there is none.
    """
    validation.choice("experiment", name, names())
    with initialized():
        options: Any = OmegaConf.to_container(compose("sweep", [f"experiment={name}"]).experiment)
    lists: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return Experiment(name, **lists)
