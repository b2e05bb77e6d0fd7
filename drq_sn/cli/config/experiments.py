"""Experiments by name: cfg/experiment."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from drq_sn import validation
from drq_sn.cli.config.overrides import compose_config
from drq_sn.cli.config.search_path import cached, choices_of
from drq_sn.report.types import Experiment, format_value

FOLDER, PUBLISHED = "experiment", "published"


@cached
def load_experiment(name: str, preset: str = PUBLISHED) -> Experiment:
    """The experiment `name`, at the scale that it has for `preset`, or else the published one.

    Raises:
        InvalidInput: if there is none.
    """
    validation.choice("experiment", name, choices_of(FOLDER))
    options: Any = OmegaConf.to_container(compose_config(f"{FOLDER}/{name}")[FOLDER])
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
