"""Overrides, `option=value`: parsed, quoted and checked before anything runs."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from drq_sn import validation
from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.reference import NOT_CHOSEN
from drq_sn.cli.config.search_path import own_directories

SWEEP_FLAGS = {"-m", "--multirun"}
DIRECTORY_FLAGS, SEARCH_PATH = ("--config-dir", "-cd"), "hydra.searchpath"
NOT_PLAIN = ("[", "{", "'", '"', "~")  # how values begin that may not be meant literally
HYDRA_GROUPS = "hydra/"  # such as hydra/job_logging
INTERNAL_GROUPS = {"hydra", *NOT_CHOSEN}
TRAIN, SWEEP, SWEEP_GROUPS = "train", "sweep", {"experiment", "launcher"}  # what one command alone chooses from

RENAMED = {  # options and values of earlier versions -> their present names
    "agent.lr": "lr",
    "launcher.ray.init.address": "launcher.address",
    "launcher.ray.remote.max_retries": "launcher.max_retries",
    "launcher.ray.remote.num_cpus": "launcher.num_cpus",
    "launcher.ray.remote.num_gpus": "launcher.num_gpus",
    "num_repeats": "num_rounds",
    "num_runs": "num_rounds",
    "noise_decay_steps": "agent.std_schedule.duration_steps",
    "preset=full": "preset=published",
    "replay_capacity_steps": "replay.capacity_steps",
    "shift_pad": "augmentation.pad",
}


def is_override(argument: str) -> bool:
    """Whether a command-line argument is `option=value` and not a flag."""
    return "=" in argument and not argument.startswith("-")


def take_directories(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate `--config-dir DIR` and `hydra.searchpath=[DIR,...]` from the other arguments.

    Returns:
        The other arguments; the directories, for `use_directories`.

    Raises:
        InvalidInput: for a flag without a value, or a search path that is not a list of text.
    """
    others, directories, remaining = list[str](), list[str](), iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name in DIRECTORY_FLAGS:
            directories.append(value if equals else next(remaining, ""))
            if not directories[-1]:
                raise validation.InvalidInput(f"{name} must be followed by a directory")
        elif name == SEARCH_PATH:
            directories += _parse_paths(argument)
        else:
            others.append(argument)
    return others, directories


def _parse_paths(argument: str) -> list[str]:
    value: Any = parse_override(_quote_value(argument, several=False)).value()
    paths: list[Any] = [getattr(path, "text", path) for path in (value if isinstance(value, list) else [value])]
    if not all(isinstance(path, str) for path in paths):
        raise validation.InvalidInput(f"{SEARCH_PATH} must be a list of directories, got {argument.partition('=')[2]}")
    return paths


def search_path_overrides() -> list[str]:
    """The override that makes another process use the same directories; none if there are none."""
    paths = ",".join(_quote(str(directory)) for directory in own_directories())
    return [f"{SEARCH_PATH}=[{paths}]"] if paths else []


def quote_values(arguments: Sequence[str], several: bool) -> list[str]:
    """Put values that Hydra's grammar refuses, such as paths with `=` or `#`, between quotes.

    With `several`, a comma separates values.

    Raises:
        InvalidInput: if a value may also be meant as a list or as several values; shows how to quote it.
    """
    return [_quote_value(argument, several) if is_override(argument) else argument for argument in arguments]


def _quote_value(argument: str, several: bool) -> str:
    name, equals, value = argument.partition("=")
    if not equals or _parse(argument) or value.startswith(NOT_PLAIN) or (several and "," in value):
        parse_override(argument)
        return argument
    quoted = f"{name}={_quote(value)}"
    parse_override(quoted)
    return quoted


def parse_override(argument: str) -> Override:
    """Parse `option=value`.

    Raises:
        InvalidInput: if Hydra's grammar refuses it; shows how to quote it.
    """
    override = _parse(argument)
    if override is not None:
        return override
    name, equals, value = argument.partition("=")
    is_list = value.startswith("[") and value.endswith("]")
    values = ",".join(map(_quote, (value[1:-1] if is_list else value).split(",")))
    quoted = f"{name}=[{values}]" if is_list else f"{name}={values}"
    if not equals or _parse(quoted) is None:
        raise validation.InvalidInput(f"arguments must be option=value, got {argument!r}")
    raise validation.InvalidInput(f"{argument}: special characters need quotes, such as {shlex.quote(quoted)}")


def parse_value(text: str) -> Any:
    """The value that `text` has on a command line: 0.001 for `1e-3`."""
    return parse_override(f"value={text}").value()


def _parse(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def _quote(text: str) -> str:
    quoted: str = QuotedString(text, Quote.double).with_quotes()
    return quoted


def check_overrides(arguments: Sequence[str], config_name: str, sweeps_by_itself: str | None = None) -> None:
    """Compose every configuration of `config_name` that `arguments`, a command line, ask for.

    A command that `sweeps_by_itself` takes lists instead of several values.

    Raises:
        InvalidInput: for an unknown option or choice, with the nearest ones that exist.
    """
    flags = SWEEP_FLAGS & set(arguments)
    with initialized():
        try:
            parsed = [parse_override(argument) for argument in arguments if argument not in flags]
            if not flags:
                _refuse_several(parsed, config_name, sweeps_by_itself)
            _check_renamed(parsed)
            _check_choices(parsed, config_name)
            _check_keys([*_agent_of_experiment(parsed), *parsed], config_name)
        except (HydraException, OmegaConfBaseException) as error:
            raise validation.InvalidInput(validation.first_line(error)) from None


def not_composed(error: Exception, choices: str) -> validation.InvalidInput:
    """The error of a composition as one line with the `choices` that it was for."""
    return validation.InvalidInput(f"{validation.first_line(error).rstrip('.')} with {choices}")


def own_options(cfg: DictConfig) -> DictConfig:
    """The options of a run that `config.yaml` holds: all but the groups that only set others."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in INTERNAL_GROUPS])


def initialized() -> AbstractContextManager[Any]:
    """Hydra, ready to compose, whether a command has made it so or not."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_dir(version_base="1.3", config_dir=str(config_dir()))


def compose_config(config_name: str, overrides: Sequence[str] = (), **options: bool) -> DictConfig:
    """Hydra's `compose`, whether a command has initialized Hydra or not."""
    with initialized():
        return compose(config_name, list(overrides), **options)


def group_options(config_name: str = "train") -> dict[str, list[str]]:
    """Group -> its options, for the groups that users of `config_name` choose from; needs an initialized Hydra."""
    loader = GlobalHydra.instance().config_loader()
    hidden = INTERNAL_GROUPS | (set() if config_name == SWEEP else SWEEP_GROUPS)
    return {group: loader.get_group_options(group) for group in loader.list_groups("") if group not in hidden}


def alternatives(override: Override) -> Iterator[str]:
    """Each `name=value` of an override, which may have several values."""
    line = override.input_line or ""
    if override.is_sweep_override():
        name = line.split("=", 1)[0]
        return (f"{name}={value}" for value in override.sweep_string_iterator())
    return iter([line])


def _refuse_several(parsed: list[Override], config_name: str, sweeps_by_itself: str | None) -> None:
    for override in parsed:
        if override.is_sweep_override():
            name, _, value = str(override.input_line).partition("=")
            sweep = " or 'drq-sn sweep'" if config_name == TRAIN else ""
            several = f"brackets: {name}=[{value}]" if sweeps_by_itself else f"--multirun (sequential){sweep}"
            raise validation.InvalidInput(
                f"{override.input_line}: several values need {several}, "
                f"one value with a comma needs quotes: {shlex.quote(f'{name}={_quote(value)}')}"
            )


def _agent_of_experiment(parsed: list[Override]) -> list[Override]:
    """The agent of the experiment that `parsed` name, unless they name an agent, too."""
    lines = {override.key_or_group: next(alternatives(override)) for override in parsed}
    if "experiment" not in lines or "agent" in lines:
        return []
    experiment = compose(f"experiment/{lines['experiment'].partition('=')[2]}").experiment
    return [parse_override(f"agent={experiment.agent}")]


def _check_renamed(parsed: list[Override]) -> None:
    for override in parsed:
        for name in (override.key_or_group, *alternatives(override)):
            if name in RENAMED:
                raise validation.InvalidInput(f"{name} has been renamed to {RENAMED[name]}")


def _check_choices(parsed: list[Override], config_name: str) -> None:
    groups = group_options(config_name)
    for override in parsed:
        if override.key_or_group.split(".")[0] in SWEEP_GROUPS and config_name != SWEEP:
            raise validation.InvalidInput(f"{override.input_line}: only 'drq-sn sweep' takes this option")
        name = override.key_or_group
        is_of_hydra = name.startswith(HYDRA_GROUPS)
        if name in groups or is_of_hydra:
            choices = GlobalHydra.instance().config_loader().get_group_options(name) if is_of_hydra else groups[name]
            for line in alternatives(override):
                validation.choice(name, line.split("=", 1)[-1], choices)


def _check_keys(parsed: list[Override], config_name: str) -> None:
    """Every option must exist in some configuration that the chosen groups lead to; only parts may gain new ones."""
    groups = group_options(config_name)
    choices = [list(alternatives(o)) for o in parsed if o.key_or_group in groups]
    known: dict[str, list[str]] = {}
    for chosen in itertools.product(*choices):
        known |= options_of(compose(config_name, list(chosen)))
    for override in parsed:
        name = override.key_or_group
        if override.is_delete():
            raise validation.InvalidInput(f"{override.input_line}: options cannot be removed; set {name}=VALUE")
        if name in groups or name.startswith(("hydra.", HYDRA_GROUPS)):
            continue
        validation.choice("option", name.split(".")[0] if override.is_add() else name, known)
        if known.get(name) and not isinstance(override.value(), dict):
            inside = ", ".join(f"{name}.{option}" for option in known[name])
            raise validation.InvalidInput(f"{override.input_line}: {name} is a group; set one of its fields: {inside}")
    # what a plain option is set to cannot change which options there are: one of its values will do
    values = (list(alternatives(o)) if o.key_or_group in groups else [next(alternatives(o))] for o in parsed)
    for lines in itertools.product(*values):
        try:
            compose(config_name, list(lines))
        except HydraException as error:
            names = " ".join(line for line in lines if line.split("=", 1)[0] in groups)
            raise not_composed(error, names or "the defaults") from None


def options_of(cfg: DictConfig, prefix: str = "") -> dict[str, list[str]]:
    """Dotted name of every option in `cfg` -> names of the options inside it; interpolations are not followed."""
    found: dict[str, list[str]] = {}
    for key in map(str, cfg):
        name = f"{prefix}{key}"
        if name not in INTERNAL_GROUPS:
            is_part = not OmegaConf.is_interpolation(cfg, key) and OmegaConf.is_dict(cfg[key])
            found[name] = [str(option) for option in cfg[key]] if is_part else []
            found |= options_of(cfg[key], f"{name}.") if is_part else {}
    return found
