"""What the paper ran, by name: cfg/experiment."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose
from omegaconf import OmegaConf

from drq_sn import validation
from drq_sn.cli.config.overrides import initialized
from drq_sn.cli.config.search_path import choices_of
from drq_sn.report.types import format_value

FOLDER, PUBLISHED = "experiment", "published"


@dataclass(frozen=True)
class Experiment:
    """Runs that make a table or a figure: every task with every variant and seed.

    Attributes:
        name: such as `table1`.
        agent: name of the agent's option.
        tasks: names of tasks, in the paper's order.
        variants: options that runs differ in: `{"head": "mlp2", "normalizer": "none"}`.
        seeds: seeds.
        num_train_frames: length of every run.
        labels: names of the variants, where they were combined from axes.
        has_preset: whether these are the runs of a smaller preset, its length included.
    """

    name: str
    agent: str
    tasks: tuple[str, ...]
    variants: tuple[dict[str, str], ...]
    seeds: tuple[int, ...]
    num_train_frames: int
    labels: tuple[str, ...] = ()
    has_preset: bool = False


def names() -> list[str]:
    """Every experiment there is."""
    return choices_of(FOLDER)


def load_experiment(name: str, preset: str = PUBLISHED) -> Experiment:
    """The experiment `name`, at the scale that it has for `preset`, or else the published one.

    Raises:
        InvalidInput: if there is none.
    """
    validation.choice("experiment", name, names())
    with initialized():
        options: Any = OmegaConf.to_container(compose("sweep", [f"experiment={name}"]).experiment)
    smaller = options.pop("presets", {}).get(preset, {})
    options |= smaller
    if axes := options.pop("axes", None):
        combined = [_combine(each, f"_{preset}" if smaller else "") for each in itertools.product(*axes)]
        options["labels"], options["variants"] = zip(*combined, strict=True)
    lists: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return Experiment(name, **lists, has_preset=bool(smaller))


def _combine(choices: Sequence[dict[str, Any]], suffix: str) -> tuple[str, dict[str, str]]:
    """Label and options of one variant: those of its choice on every axis, and a run_suffix with their names."""
    names = [str(choice["name"]) for choice in choices]
    options = {key: format_value(value) for choice in choices for key, value in choice.items() if key != "name"}
    return " ".join(names), {**options, "run_suffix": f"_{'_'.join(names)}{suffix}"}
