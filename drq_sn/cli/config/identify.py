"""Choices of a run by name, and its departures from the published setting: recorded at training, read by reports."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from drq_sn.cli.config.older_runs import FORMER_MEANING
from drq_sn.cli.config.overrides import INTERNAL_GROUPS, compose_config, initialized
from drq_sn.cli.config.ranges import seed as check_seed
from drq_sn.cli.config.saved import read_config
from drq_sn.cli.config.search_path import cached, choices_of
from drq_sn.cli.running.run_dir import MAY_DIFFER, flatten
from drq_sn.report.scores import canonical
from drq_sn.report.types import Departure, Preset, Run, Variant
from drq_sn.runs.reader import CONFIG, RECORD, read_logs, read_record
from drq_sn.runs.status import Status
from drq_sn.validation import InvalidInput

RETURNS = "agent.returns._target_"  # in which C51 differs from DQN
GROUPS = ("agent", "head", "normalizer")  # of a variant
PRESET = "published"
OTHER, ABSENT = "other", "absent"
BASE = Variant("drqv2", "modern4", "none")  # whose published setting an unknown part is compared with
NOT_COMPARED = MAY_DIFFER | INTERNAL_GROUPS | {"seed", "task"}
LONGEST_NAME = 100
FREE_IN_HEADS = {"width", "pnorm"}  # options that do not make another head

Options = dict[str, Any]
"""Dotted name -> value."""


def record_choices(cfg: DictConfig) -> dict[str, Any]:
    """The choices of this command line, from its resolved configuration, for `run.json`.

    Returns:
        `choices`: agent, head, normalizer, preset, task and seed by name; `overrides`: every option that is not at
        its published value, as name, value and published value.
    """
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    options = flatten(OmegaConf.to_container(cfg))
    groups = {group: str(chosen.get(group) or find_choice(group, options)) for group in GROUPS}
    departures = find_departures(Variant(**groups), options)
    return {
        "choices": {**groups, "preset": chosen.get("preset"), "task": cfg.task, "seed": cfg.seed},
        "overrides": [departure._asdict() for departure in departures],
    }


def read_run(run_dir: Path) -> Run:
    """The run in `run_dir`, identified by its `run.json`, or by its `config.yaml` if older code wrote it.

    Raises:
        InvalidInput: if a file is not what a run wrote.
    """
    record, options = read_record(run_dir), _read_options(run_dir)
    task, seed, recorded = options["task"], options["seed"], None
    if "choices" not in record:
        variant = Variant(*(find_choice(group, options) for group in GROUPS))
        departures = find_departures(variant, options)
    else:
        try:
            choices = record["choices"]
            for name in (*GROUPS, "task"):
                _require_name(name, choices[name])
            check_seed("seed", choices["seed"])
            variant = Variant(*(choices[group] for group in GROUPS))
            departures = tuple(Departure(**override) for override in record["overrides"])
            for departure in departures:
                _require_name("name of an override", departure.name)
            task, seed, recorded = choices["task"], choices["seed"], choices.get("preset")
        except (InvalidInput, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{run_dir / RECORD} is not a file that a run wrote ({type(error).__name__}: {error})"
            ) from None
    preset, status = _find_preset(variant, departures, task, recorded), Status(record.get("status"))
    logs = read_logs(run_dir)
    return Run(run_dir, canonical(task), seed, status, variant, departures, preset, record, options, logs)


def _find_preset(variant: Variant, departures: Sequence[Departure], task: str, recorded: str | None) -> Preset:
    """The preset `recorded`; without one, the first whose departures are all among `departures`."""
    for name in choices_of("preset"):
        if name == PRESET or recorded not in (None, name) or not (recorded or departures):
            continue
        changed = find_departures(variant, _published_setting(variant, task, name))
        if recorded or all(departure in departures for departure in changed):
            return Preset(name, changed)
    return Preset()


def _require_name(option: str, value: Any) -> None:
    """Raise `InvalidInput` unless `value` can be part of file names and of labels in figures."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or "$" in value or not value.isprintable():
        raise InvalidInput(f"{option} must be a name of at most {LONGEST_NAME} characters, without $, got {value!r}")


def find_choice(group: str, options: Options) -> str:
    """The choice of `group` with the class, and for heads the layers, of `options`; else `other`."""
    for name, published in _group_options(group).items():
        identifying = {
            option: value
            for option, value in published.items()
            if option in (f"{group}._target_", RETURNS)
            or (group == "head" and option.split(".")[-1] not in FREE_IN_HEADS)
        }
        if all(options.get(option) == value for option, value in identifying.items()):
            return name
    return OTHER


def find_departures(variant: Variant, options: Options) -> tuple[Departure, ...]:
    """Every option that is not at the published value of `variant` on its task.

    Options are absent only where the agent is not.
    """
    before, now = FORMER_MEANING | _published_setting(variant, str(options["task"])), FORMER_MEANING | options
    names = before.keys() | now.keys() if "agent._target_" in options else options.keys() | {"agent._target_"}
    return tuple(
        Departure(name, now.get(name, ABSENT), before.get(name, ABSENT))
        for name in sorted(names)
        if before.get(name) != now.get(name) and not {name, name.split(".")[0]} & NOT_COMPARED
    )


@cached
def _group_options(group: str) -> dict[str, Options]:
    """Choice -> its options, interpolations unresolved, of every choice of `group`."""
    names = choices_of(group)
    with initialized():
        # an agent may choose defaults of other groups
        alone = group != "agent"
        trees = {n: (compose(f"{group}/{n}") if alone else compose("train", [f"{group}={n}"]))[group] for n in names}
    return {name: flatten(OmegaConf.to_container(tree), f"{group}.") for name, tree in trees.items()}


@cached
def _published_setting(variant: Variant, task: str, preset: str = PRESET) -> Options:
    """All options of `variant` on `task` with `preset`."""
    cfg = copy.deepcopy(_compose(variant, preset))
    cfg.task, cfg.run_dir = task, ""
    return flatten(OmegaConf.to_container(cfg, resolve=True))


@cached
def _compose(variant: Variant, preset: str) -> DictConfig:
    """The configuration of `variant` with `preset`; interpolations are unresolved, as numbers depend on the task."""
    named = {
        group: name if name in choices_of(group) else base
        for group, name, base in zip(GROUPS, variant, BASE, strict=False)
    }
    cfg = compose_config("train", [f"preset={preset}", *(f"{group}={name}" for group, name in named.items())])
    OmegaConf.set_struct(cfg, False)
    return cfg


def _read_options(run_dir: Path) -> Options:
    """All options in `config.yaml`."""
    path = run_dir / CONFIG
    options = flatten(OmegaConf.to_container(read_config(run_dir)))
    try:
        _require_name("task", options.get("task"))
        check_seed("seed", options.get("seed"))
    except InvalidInput as error:
        raise InvalidInput(f"{path} is not a configuration that a run wrote ({error})") from None
    return options
