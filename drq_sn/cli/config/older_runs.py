"""Configurations of runs that older code made, read under the present names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from drq_sn.validation import InvalidInput, first_line

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is installed
PLAIN = (str, int, float, bool, type(None))
INTERPOLATION, MISSING = "${", "???"  # what OmegaConf would look up, and refuse to read
LAYOUT = str.maketrans("", "", "\t\n")
MAX_VALUES = 10_000  # of one configuration; runs have about 100
MOVED = {  # modules of `_target_` -> where their classes are now
    "drq_sn.augmentations": "drq_sn.training.augmentations",
    "drq_sn.networks.projection": "drq_sn.networks.normalizers",
    "drq_sn.networks.spectral_schedules": "drq_sn.networks.normalizers",
    "drq_sn.penalties": "drq_sn.agents.penalties",
    "drq_sn.runtime": "drq_sn.agents.runtime",
    "drq_sn.schedules": "drq_sn.training.schedules",
}
COPIES = ("noise_decay_steps", "replay_capacity_steps", "shift_pad")  # second names of values that remain under one
REQUIRED: dict[str, dict[str, Any]] = {  # group -> options that building needs, with what they meant
    "agent": {"adam_eps": 1e-8},
    "replay": {"storage": "auto", "keep_truncated": False},
    "penalty": {"_target_": "drq_sn.agents.penalties.NoPenalty"},
    "lr_schedule": {"_target_": "drq_sn.training.schedules.Constant", "value": 1.0},
}
FORMER_MEANING = {  # further options that did not exist, and what they would have been
    "init_from": None,
    "init_networks": "all",
    "env._target_": "drq_sn.envs.suite.make_env",
    "env.camera": None,
    "env.frame_stack": 3,
    "matmul_precision": "highest",
    "encoder_dtype": "float32",
    "replay.keep_truncated": False,
    "env.time_limit_frames": None,
    "head.pnorm": False,
    "normalizer.networks": ["actor", "critic"],
    "normalizer.conv_layers": "none",
    "normalizer.trunk": False,
    "normalizer.scope": "product",
}


def parse_config(text: str, path: Path) -> dict[str, Any]:
    """The tree of options in a run's `config.yaml`, under their present names; nothing in it is resolved.

    Args:
        text: its contents.
        path: the file, for messages.

    Raises:
        InvalidInput: if it is not YAML, or has anything but named plain values, as a resolved configuration does.
    """
    for module, now in MOVED.items():
        text = text.replace(f"_target_: {module}.", f"_target_: {now}.")
    try:
        options = yaml.load(text, YAML_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist
        raise InvalidInput(f"{path}: not readable as YAML ({first_line(error)})") from None
    if not isinstance(options, dict):
        raise InvalidInput(f"{path} is not a configuration that a run wrote")
    _require_plain(options, path)
    _rename(options)
    return options


def _require_plain(options: dict[Any, Any], path: Path) -> None:
    pending: list[tuple[str, Any]] = [("", options)]
    for _ in range(MAX_VALUES):  # aliases of YAML can make a small file endless
        if not pending:
            return
        name, node = pending.pop()
        if isinstance(node, dict):
            if not all(isinstance(key, (str, int)) for key in node):
                raise InvalidInput(f"{path}: {name or 'it'} has a value without a name")
            pending += [(f"{name}.{key}" if name else str(key), child) for key, child in node.items()]
        elif isinstance(node, list):
            pending += [(f"{name}[{index}]", child) for index, child in enumerate(node)]
        elif not isinstance(node, PLAIN) or (isinstance(node, str) and not _is_plain(node)):
            raise InvalidInput(f"{path}: {name} must be a plain value, as runs save them, got {node!r}")
    raise InvalidInput(f"{path} has more than {MAX_VALUES} values; it is not a configuration that a run wrote")


def _is_plain(text: str) -> bool:
    """Whether OmegaConf takes `text` as it is, and a terminal shows it as it is."""
    return INTERPOLATION not in text and text != MISSING and text.translate(LAYOUT).isprintable()


def _rename(options: dict[str, Any]) -> None:
    for name in COPIES:
        options.pop(name, None)
    if "agent" in options:  # a configuration of a run, not just any YAML
        for group, required in REQUIRED.items():
            given = options.get(group) or {}
            is_another_class = bool(given) and "_target_" in required
            options[group] = {**required, **given} if isinstance(given, dict) and not is_another_class else given
        if isinstance(options["agent"], dict):
            options["agent"].pop("lr", None)
    head = options.get("head")
    if isinstance(head, dict) and "_target_" not in head:
        _lift_shared(head)


def _lift_shared(head: dict[str, Any]) -> None:
    """Move what actor and critic have in common, depths excepted, to `head` itself."""
    actor, critic = head.get("actor"), head.get("critic")
    if not isinstance(actor, dict) or not isinstance(critic, dict):
        return
    for name in ("_target_", "_partial_", "width", "pnorm", "expansion"):
        if name in actor and actor.get(name) == critic.get(name):
            head[name] = actor[name]
        for network in (actor, critic):
            if name in network and network[name] == head.get(name):
                del network[name]
