"""Make targets: unknown variables are refused, values reach the command as typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from make_target import TARGETS, find_problem

from tests.builders import ROOT

HOSTILE = ["a b", "it's", '"q"', "x=y", "#1", "$HOME", "$(PATH) ${lr}", "a;b|c&d", "*", "back\\slash"]
STAMPS = ("", "-dev", "-ray", "-slurm")
INTERPRETER = f"""#!/bin/sh
case "$1" in tools/make_target.py) exec {sys.executable} "$@" ;; esac
printf '%s\\n' "$@"
"""


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """An environment with an interpreter that prints its arguments."""
    folder = tmp_path_factory.mktemp("venv")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(INTERPRETER)
    (folder / "bin" / "python").chmod(0o755)
    for name in STAMPS:
        (folder / f".installed{name}").touch()
    return folder


@pytest.fixture
def make(venv):
    """`make("train", "SEED=2")` -> the finished process."""

    def call(*words, **variables):
        inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        command = ["make", f"VENV={venv}", f"PYTHON={venv / 'bin' / 'python'}", *words]
        return subprocess.run(command, cwd=ROOT, env=inherited | variables, capture_output=True, text=True)

    return call


def arguments(result):
    """The arguments of the command that make ran, without the command itself."""
    assert result.returncode == 0, result.stderr
    module, *words = result.stdout.splitlines()
    return words[1:] if module == "-m" else words


def test_every_target_of_the_makefile_is_in_the_table():
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.M)
    lists = dict(re.findall(r"^(COMMANDS|EXPERIMENTS) *:= (.*)", (ROOT / "Makefile").read_text(), re.M))
    for name, targets in lists.items():
        phony = phony.replace(f"$({name})", targets)
    assert sorted(phony.replace("\\", "").split()) == sorted(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_an_unknown_variable_is_refused(make, target):
    result = make(target, "NROM=none")
    (line,) = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (2, "")
    assert f"make {target} does not use NROM" in line
    assert all(name in line for name in [*TARGETS[target].variables, "PYTHON", "VENV", "PIXELS"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train NROM=none", "did you mean NORM?"),
        ("train SEEDS=2 HEADS=mlp2", "does not use HEADS; did you mean HEAD?"),
        ("train task=walker_walk", "does not use task; did you mean TASK?"),
        ("profile RUNS=5", "does not use RUNS; did you mean ROUNDS?"),
        ("sweep SEED=1 SEEDS=1,2", "make sweep takes SEED or SEEDS, not both"),
        ("profile NORM=none NORMS=none", "make profile takes NORM or NORMS, not both"),
        ("lint types SEED=1", "make lint types does not use SEED."),
        ("train ARGS=it's", "ARGS must be words in shell syntax, got it's"),
    ],
)
def test_refusals_name_what_is_right(make, words, message):
    result = make(*words.split())
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("target", [name for name, target in TARGETS.items() if target.variables])
def test_values_reach_the_command_unchanged(make, target):
    templates = {}
    for name, template in TARGETS[target].variables.items():
        if name not in ("ARGS", "VENV", "PIXELS", "LAUNCHER") and template not in templates.values():
            templates[name] = template
    values = {name: HOSTILE[i % len(HOSTILE)] for i, name in enumerate(templates)}
    words = [f"{name}={value}" for name, value in values.items()]
    expected = [template.replace("{}", values[name]) for name, template in templates.items()]
    if "ARGS" in TARGETS[target].variables:
        words.append(f"ARGS={shlex.join(HOSTILE)}")
        expected += HOSTILE
    received = arguments(make(target, *words))
    assert [word for word in received if word in expected] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train", "train"),
        ("train FRAMES= SEED=3", "train seed=3"),
        ("table1 SEEDS=1,2 FRAMES=10", "sweep experiment=table1 num_train_frames=10 seed=1,2"),
        ("figure4 LAUNCHER=slurm", "sweep experiment=figure4 launcher=slurm"),
        ("table3 BATCH=64", "profile agent=drq normalizers=[none] batch_size=64"),
        ("profile HEADS=mlp2,modern4 NORM=none", "profile heads=[mlp2,modern4] normalizers=[none]"),
        ("eval RUN=runs/a", "evaluate run=runs/a"),
        ("video RUN=runs/a", "evaluate episodes=1 video=true run=runs/a"),
        ("offline DEPTHS=1,3", "fit-replay depths=[1,3]"),
        ("report RUNS=runs/*", "report runs=runs/*"),
        ("board RUNS=runs/a", "--host=localhost --logdir=runs --logdir=runs/a"),
        ("doctor", "doctor"),
    ],
)
def test_targets_are_aliases_of_commands(make, words, expected):
    result = make(*words.split())
    assert arguments(result) == expected.split()


def test_the_environment_sets_variables_and_is_not_refused(make):
    assert arguments(make("train", SEED="$7", NROM="none")) == ["train", "seed=$7"]


def test_help_has_a_line_for_every_target(make):
    lines = make().stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == list(TARGETS)
    assert max(map(len, lines)) <= 160


def documented():
    """Every `make ...` of the README and the docs: lines of code blocks, and commands inside sentences."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text()
        yield from re.findall(r"^ *(make [a-z].*)", text, re.M)
        yield from re.findall(r"`(make [a-z][^`]*)`", text)


def test_documented_commands_use_variables_of_their_target():
    commands = [shlex.split(command, comments=True)[1:] for command in documented()]
    assert len(commands) > 60
    for words in commands:
        goals = [word for word in words if "=" not in word]
        assert set(goals) <= {*TARGETS, "|"}, words
        assert find_problem(goals, [word.partition("=")[0] for word in words if "=" in word]) == ""
