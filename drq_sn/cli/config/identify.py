"""What a run trained, by the names of options, and where it departs from the published setting."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from drq_sn.cli.config.build import CONFIG, config_dir, read_config
from drq_sn.cli.config.older_runs import FORMER_MEANING, parse_config
from drq_sn.cli.config.overrides import INTERNAL_GROUPS, initialized
from drq_sn.cli.running.run_dir import MAY_DIFFER, flatten
from drq_sn.report.scores import SETTINGS_UNKNOWN
from drq_sn.report.types import Variant
from drq_sn.validation import InvalidInput

OTHER = "other"
BASE = Variant("drqv2", "modern4", "none")  # whose published setting an unknown part is compared with
NOT_COMPARED = MAY_DIFFER | INTERNAL_GROUPS | {"run_suffix", "seed", "task"}
FREE_IN_HEADS = {"width", "pnorm"}  # what users change about a head without making it another one

Options = dict[str, Any]
"""Dotted name -> value."""
ABSENT = "absent"


class Departure(NamedTuple):
    """An option of a run that is not at its published value.

    Attributes:
        name: dotted name, as on the command line.
        value: in the run; `absent` where the option does not exist.
        published: value in the published setting, likewise.
    """

    name: str
    value: Any
    published: Any

    def __str__(self) -> str:
        return f"{self.name}={_word(self.value)} (published: {_word(self.published)})"


def record_choices(cfg: DictConfig) -> dict[str, Any]:
    """What a run of this command line was asked to train, for `run.json`.

    Args:
        cfg: the resolved configuration that Hydra composed.

    Returns:
        `choices`: agent, head, normalizer, preset, task and seed by name; `overrides`: every option that is not at
        its published value, as name, value and published value.
    """
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    recognizer, options = Recognizer(), flatten(cfg)
    variant = recognizer.variant(options)  # where `cfg` was composed without a command line
    variant = Variant(*(str(chosen.get(group, known)) for group, known in variant._asdict().items()))
    return {
        "choices": {**variant._asdict(), "preset": chosen.get("preset"), "task": cfg.task, "seed": cfg.seed},
        "overrides": [departure._asdict() for departure in recognizer.departures(variant, options)],
    }


@dataclass
class Recognizer:
    """Tells what runs are; remembers what it composed, so that a hundred runs take seconds."""

    _published: dict[tuple[Variant, str], Options] = field(default_factory=dict)
    _composed: dict[Variant, DictConfig] = field(default_factory=dict)
    _groups: dict[str, dict[str, Options]] = field(default_factory=dict)

    def recognize(self, folder: Path) -> tuple[Variant, tuple[str, ...], Options]:
        """Variant of the run in `folder`, its departures as `env.image_size=48 (published: 84)`, and all its options.

        Raises:
            InvalidInput: if its `config.yaml` cannot be read.
        """
        try:
            options = _read_options(folder)
            variant = self.variant(options)
            return variant, self._format_departures(variant, options), options
        except OmegaConfBaseException as error:  # a file that somebody edited
            raise InvalidInput(
                f"{folder / CONFIG}: {str(error).splitlines()[0]}; it is not a configuration that a run wrote"
            ) from None

    def variant(self, options: Options) -> Variant:
        """Agent, head and normalizer that `options` describe."""
        return Variant(self._agent(options), self._head(options), self._normalizer(options))

    def _agent(self, options: Options) -> str:
        target = options.get("agent._target_")
        return next((name for name, leaves in self._group("agent").items() if leaves.get("_target_") == target), OTHER)

    def _normalizer(self, options: Options) -> str:
        target = options.get("normalizer._target_")
        return next(
            (name for name, leaves in self._group("normalizer").items() if leaves.get("_target_") == target), OTHER
        )

    def _head(self, options: Options) -> str:
        """The head with the same parts, or else the one that the run's folder is named after."""
        heads = self._group("head")
        for name, leaves in heads.items():
            if all(
                options.get(f"head.{key}") == value for key, value in leaves.items() if _tells_heads_apart(key, value)
            ):
                return name
        folder = Path(str(options.get("run_dir", ""))).parent.name  # TASK/AGENT_HEAD_NORM/seed_N
        return max((name for name in heads if f"_{name}_" in f"_{folder}_"), key=len, default=OTHER)

    def _group(self, group: str) -> dict[str, Options]:
        """Option -> its leaves, of every file in `cfg/group`."""
        if group not in self._groups:
            names = sorted(file.stem for file in (config_dir() / group).glob("*.yaml"))
            with initialized():
                self._groups[group] = {name: _raw(compose("train", [f"{group}={name}"])[group]) for name in names}
        return self._groups[group]

    def _format_departures(self, variant: Variant, options: Options) -> tuple[str, ...]:
        if "agent._target_" not in options:
            return (
                SETTINGS_UNKNOWN,
                *(f"{name}={_word(options[name])}" for name in sorted(options) if _is_compared(name)),
            )
        return tuple(map(str, self.departures(variant, options)))

    def departures(self, variant: Variant, options: Options) -> list[Departure]:
        """Every option among a run's `options` that is not at the published value of `variant` on its task."""
        published = self._setting(variant, str(options["task"]))
        before, now = FORMER_MEANING | published, FORMER_MEANING | options
        names = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        return [
            Departure(name, now.get(name, ABSENT), before.get(name, ABSENT)) for name in names if _is_compared(name)
        ]

    def _setting(self, variant: Variant, task: str) -> Options:
        """The published setting on `task`."""
        if (variant, task) not in self._published:
            cfg = copy.deepcopy(self._compose(variant))
            cfg.task, cfg.run_dir = task, ""
            self._published[variant, task] = flatten(cfg)
        return self._published[variant, task]

    def _compose(self, variant: Variant) -> DictConfig:
        """Composed once per variant, with interpolations as they are: numbers that depend on the task still follow it."""
        if variant not in self._composed:
            known = zip(("agent", "head", "normalizer"), variant, BASE, strict=True)
            words = [f"{group}={base if name == OTHER else name}" for group, name, base in known]
            with initialized():
                self._composed[variant] = compose("train", words)
            OmegaConf.set_struct(self._composed[variant], False)
        return self._composed[variant]


def _read_options(folder: Path) -> Options:
    """What `config.yaml` says. A run wrote it resolved: plain YAML, which is read many times faster than a configuration."""
    with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError, OSError):
        options = _plain_leaves(parse_config((folder / CONFIG).read_text()))
        if "task" in options and not any(isinstance(value, str) and "${" in value for value in options.values()):
            return options
    return flatten(read_config(folder))


def _is_compared(name: str) -> bool:
    return not {name, name.split(".")[0]} & NOT_COMPARED


def _tells_heads_apart(name: str, value: Any) -> bool:
    return name.split(".")[-1] not in FREE_IN_HEADS and not _is_reference(value)


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")


def _raw(cfg: Any) -> Options:
    """Leaves with interpolations unresolved."""
    return _plain_leaves(OmegaConf.to_container(cfg, resolve=False))


def _plain_leaves(node: Any, prefix: str = "") -> Options:
    if not isinstance(node, dict):
        return {prefix.rstrip("."): node}
    found: Options = {}
    for key, value in node.items():
        found |= _plain_leaves(value, f"{prefix}{key}.")
    return found


def _word(value: Any) -> str:
    """How an option's value is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
