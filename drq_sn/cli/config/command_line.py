"""The command line of this process, checked as a whole before anything runs: every mistake is one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

import hydra
from hydra import compose
from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.cli.config.build import config_dir, resolve
from drq_sn.cli.config.overrides import (
    SWEEP_FLAGS,
    check_overrides,
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

    Expected exceptions end the process with one line; see `check_command_line` for the other arguments.
    """
    check_command_line(config_name, sweeps_by_itself)

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)
    def call(cfg: DictConfig) -> None:
        with exit_on_expected_errors():
            resolve(cfg)
            function(cfg)

    call()


def check_command_line(config_name: str, sweeps_by_itself: str | None = None) -> None:
    """Check this process's command line and quote what Hydra needs quoted; where it is wrong, end with one line.

    Args:
        config_name: see `check_overrides`; `--help` describes its options and ends the process.
        sweeps_by_itself: what to say to `--multirun`, where a command does not take it.
    """
    use_own_directories()
    answer_help(config_name)
    sys.argv[1:] = sorted(sys.argv[1:], key=is_override)  # Hydra refuses flags between overrides
    with exit_on_expected_errors():
        if sweeps_by_itself and SWEEP_FLAGS & set(sys.argv[1:]):
            raise validation.InvalidInput(f"--multirun: {sweeps_by_itself}")
        flags = {argument for argument in sys.argv[1:] if argument.startswith("-")}
        if flags <= SWEEP_FLAGS | SHOW_FLAGS:  # else Hydra is asked for something else than runs
            sys.argv[1:] = quote_values(sys.argv[1:], several=bool(flags & SWEEP_FLAGS))
            shows = bool(flags & SHOW_FLAGS)  # `--cfg job` has an argument that is no override
            checked = [a for a in sys.argv[1:] if is_override(a) or a in SWEEP_FLAGS or not shows]
            check_overrides(checked, config_name, sweeps_by_itself)
        for flag in flags:
            name = flag.lstrip("-").split("=")[0].replace("-", "_")
            with initialized():
                if name in options_of(compose(config_name)) or name in group_options(config_name):
                    raise validation.InvalidInput(f"{flag}: options have no dashes; use {name}=VALUE")


def use_own_directories() -> None:
    """Use the configuration directories that this process's command line names, and take them off it."""
    with exit_on_expected_errors():
        sys.argv[1:], directories = take_directories(sys.argv[1:])
        use_directories(directories)


def answer_help(config_name: str) -> None:
    """Describe the options of a command and end, if this process's command line asks for help."""
    if HELP_FLAGS & set(sys.argv[1:]):
        print(format_help(config_dir(), config_name, own=own_directories()), end="")
        sys.exit(ExitCode.SUCCESS)
