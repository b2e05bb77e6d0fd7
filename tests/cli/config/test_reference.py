"""Help of the commands, from the comments in cfg/."""

from __future__ import annotations

import pytest

from drq_sn.cli import train
from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.reference import format_help
from tests.builders import invoke

COMMANDS = sorted(path.stem for path in config_dir().glob("*.yaml"))
SCREEN = (48, 120)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen(command):
    lines = format_help(config_dir(), command, SCREEN[1]).splitlines()
    assert len(lines) <= SCREEN[0]
    assert max(map(len, lines)) <= SCREEN[1]
    assert lines[0] == f"usage: drq-sn {command.replace('_', '-')} [option=value ...]"


def test_help_has_defaults_meanings_and_all_choices_of_groups():
    text = " ".join(format_help(config_dir(), "train", 120).split())
    assert "seed 1 seed of weights, exploration, batches and episodes; an integer >= 0" in text
    assert "head modern4 layers after the trunks: mlp2, mlp4, modern2, modern4, mlp_ln, d2rl, simba, bronet" in text
    assert "hydra" not in text
    assert "agent_preset" not in text


def test_a_narrow_terminal_has_more_lines_for_groups_only():
    narrow, wide = (format_help(config_dir(), "train", width).splitlines() for width in (80, 200))
    assert max(map(len, narrow)) <= 80
    assert len(narrow) > len(wide)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_command_answers_help_before_anything_else(flag):
    result = invoke(train.main, "bach_size=3", flag)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: drq-sn train")
