"""The command line of this process, checked as a whole before anything runs: every mistake is one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

import hydra
from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.cli.config.build import config_dir, resolve
from drq_sn.cli.config.overrides import (
    SWEEP_FLAGS,
    check_overrides,
    compose_config,
    group_options,
    initialized,
    is_override,
    options_of,
    quote_values,
    take_directories,
)
from drq_sn.cli.config.reference import format_help
from drq_sn.cli.config.search_path import own_directories, use_directories
from drq_sn.cli.running.exit_codes import ExitCode, exit_on_expected_errors

HELP_FLAGS, SHOW_FLAGS = {"-h", "--help"}, {"-c", "--cfg"}


def run_composed(
    config_name: str, function: Callable[[DictConfig], object], sweeps_by_itself: str | None = None
) -> None:
    """Check this process's command line, and call `function` with the configuration that it asks for.

    See `check_command_line` for the other arguments.
    """
    check_command_line(config_name, sweeps_by_itself)

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)
    def call(cfg: DictConfig) -> None:
        with exit_on_expected_errors():  # Hydra would print a traceback
            resolve(cfg)
            function(cfg)

    call()


def check_command_line(config_name: str, sweeps_by_itself: str | None = None) -> None:
    """Check this process's command line, quote what Hydra needs quoted, and use the directories that it names.

    Args:
        config_name: see `check_overrides`; `--help` describes its options and ends the process.
        sweeps_by_itself: what to say to `--multirun`, where a command does not take it.

    Raises:
        InvalidInput: if it is wrong.
    """
    arguments, directories = take_directories(sys.argv[1:])
    use_directories(directories)
    if HELP_FLAGS & set(arguments):
        print(format_help(config_dir(), config_name, own=own_directories()), end="")
        sys.exit(ExitCode.SUCCESS)
    sys.argv[1:] = sorted(arguments, key=is_override)  # Hydra refuses flags between overrides
    flags = {argument for argument in arguments if argument.startswith("-")}
    if sweeps_by_itself and SWEEP_FLAGS & flags:
        raise validation.InvalidInput(f"--multirun: {sweeps_by_itself}")
    if flags <= SWEEP_FLAGS | SHOW_FLAGS:
        sys.argv[1:] = quote_values(sys.argv[1:], several=bool(flags & SWEEP_FLAGS))
        shows = bool(flags & SHOW_FLAGS)  # `--cfg job` has an argument that is no override
        checked = [a for a in sys.argv[1:] if is_override(a) or a in SWEEP_FLAGS or not shows]
        check_overrides(checked, config_name, sweeps_by_itself)
        return
    with initialized():
        known = {*options_of(compose_config(config_name)), *group_options(config_name)}
    for flag in flags:  # the others are Hydra's to answer
        name = flag.lstrip("-").split("=")[0].replace("-", "_")
        if name in known:
            raise validation.InvalidInput(f"{flag}: options have no dashes; use {name}=VALUE")
