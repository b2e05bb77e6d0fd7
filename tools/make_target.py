"""Make targets: the variables that each uses, and the command that it runs.

usage: make_target.py help
       make_target.py check GOALS VARIABLE...     print one line if no goal uses one of the variables
       make_target.py run TARGET PYTHON...        run the target's command with this interpreter

Values are read from the environment, where make puts them as they were typed. Needs only the standard library.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple


class Target(NamedTuple):
    """A make target.

    Attributes:
        summary: what it does, for `make help`.
        command: arguments of the interpreter; empty where the recipe in the Makefile says it all.
        variables: variable -> the argument that it sets, with `{}` for its value. ARGS is split into words instead.
    """

    summary: str
    command: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}


EVERYWHERE = ("PYTHON", "VENV", "PIXELS")
ARGS = {"ARGS": "{}"}
TRAIN = {
    "TASK": "task={}",
    "AGENT": "agent={}",
    "HEAD": "head={}",
    "NORM": "normalizer={}",
    "SEED": "seed={}",
    "PRESET": "preset={}",
    "FRAMES": "num_train_frames={}",
}
PLURALS = {f"{name}S": TRAIN[name] for name in ("TASK", "AGENT", "HEAD", "NORM", "SEED")}
SWEEP = {**TRAIN, **PLURALS, "LAUNCHER": "launcher={}", **ARGS}
PROFILE = {
    **{name: TRAIN[name] for name in ("TASK", "AGENT", "SEED", "PRESET")},
    **dict.fromkeys(("HEAD", "HEADS"), "heads=[{}]"),
    **dict.fromkeys(("NORM", "NORMS"), "normalizers=[{}]"),
    "BATCH": "batch_size={}",
    "ITERATIONS": "num_updates={}",
    "ROUNDS": "num_rounds={}",
    "TRACE": "trace={}",
    **ARGS,
}
TABLE3 = {name: argument for name, argument in PROFILE.items() if name not in ("AGENT", "NORM", "NORMS")}
FIT_REPLAY = {"RUN": "run={}", "NORM": "normalizers=[{}]", "NORMS": "normalizers=[{}]", "DEPTHS": "depths=[{}]", **ARGS}
BUNDLE = {
    "BUNDLE": "--bundle={}",
    "TARGET_PYTHON": "--python={}",
    "SLIM": "--slim={}",
    "DEV": "--dev={}",
    "RAY": "--ray={}",
    "PIXELS": "--pixels={}",
}
EXPERIMENTS = ("table1", "table2", "figure1", "figure2", "figure3", "figure4",
               "gogianu_lr", "gogianu_depth", "gogianu_schedulers", "gogianu_all_layers")  # fmt: skip


def drq_sn(*arguments: str) -> tuple[str, ...]:
    """The command `drq-sn` with these arguments."""
    return ("-m", "drq_sn.cli.main", *arguments)


TARGETS = {
    "help": Target("list the targets and their variables"),
    "setup": Target("make the virtual environment; every target does, where it needs one"),
    "train": Target("train one agent", drq_sn("train"), TRAIN | ARGS),
    "sweep": Target("train many: SEEDS=1,2,3", drq_sn("sweep"), {"EXPERIMENT": "experiment={}", **SWEEP}),
    **{name: Target("the paper's runs", drq_sn("sweep", f"experiment={name}"), SWEEP) for name in EXPERIMENTS},
    "table3": Target("the paper's profile", drq_sn("profile", "agent=drq", "normalizers=[none]"), TABLE3),
    "profile": Target("time and memory of heads", drq_sn("profile"), PROFILE),
    "bench": Target("speed of this machine", drq_sn("bench"), {"PARTS": "parts=[{}]", **ARGS}),
    **dict.fromkeys(("eval", "evaluate"), Target("evaluate a run", drq_sn("evaluate"), {"RUN": "run={}", **ARGS})),
    "video": Target("video of a run", drq_sn("evaluate", "episodes=1", "video=true"), {"RUN": "run={}", **ARGS}),
    **dict.fromkeys(("offline", "fit-replay"), Target("fit heads to a replay", drq_sn("fit-replay"), FIT_REPLAY)),
    "board": Target(
        "TensorBoard on localhost",
        ("-m", "tensorboard.main", "--host=localhost", "--logdir=runs"),
        {"RUNS": "--logdir={}", "PORT": "--port={}", **ARGS},
    ),
    "report": Target("tables and figures of runs", drq_sn("report"), {"RUNS": "runs={}", **ARGS}),
    "doctor": Target("what this machine has and lacks", drq_sn("doctor")),
    "visit": Target("measure and train on a new GPU", ("tools/visit.py",), {"MINUTES": "--minutes={}"}),
    "bundle": Target("bundle for machines without network", ("tools/bundle.py",), BUNDLE),
    "install-offline": Target(
        "install from a bundle",
        ("tools/install_offline.py",),
        {"BUNDLE": "--bundle={}", "VENV": "--venv={}", "PIXELS": "--pixels={}"},
    ),
    "test": Target("default tests"),
    "test-fast": Target("tests within a minute"),
    "test-slow": Target("tests that take minutes"),
    "test-faults": Target("kills, damaged files, full disks"),
    "test-endurance": Target("six hours of training under kills"),
    "test-gpu": Target("tests on a CUDA device"),
    "test-cluster": Target("tests with Ray and submitit"),
    "check": Target("lint, types and default tests"),
    "lint": Target("ruff"),
    "types": Target("mypy"),
    "options": Target("rewrite docs/options.md from cfg/"),
    "figures": Target("redraw the figures in results/"),
    "clean": Target("remove environments and builds"),
}


def describe() -> str:
    """The text of `make help`: one line per target."""
    lines = [
        f"make {name:16} {target.summary:36} {' '.join(names_of(target))}".rstrip() for name, target in TARGETS.items()
    ]
    lines.append(f"everywhere: {' '.join(EVERYWHERE)}; ARGS='name=value ...', where listed, takes any other option")
    return "\n".join(lines)


def names_of(target: Target) -> list[str]:
    """The variables of a target, without those of all targets."""
    return [name for name in target.variables if name not in EVERYWHERE]


def find_problem(goals: Sequence[str], variables: Sequence[str]) -> str:
    """One line on the first variable that no goal uses, or on two that set the same option; empty if all is well."""
    targets = [TARGETS[goal] for goal in goals or ["help"] if goal in TARGETS]
    used = list(dict.fromkeys(name for target in targets for name in names_of(target)))
    command = " ".join(["make", *goals])
    for name in variables if targets else ():
        if name not in (*used, *EVERYWHERE):
            near = difflib.get_close_matches(name.upper(), used, n=1)
            guess = f"; did you mean {near[0]}?" if near else "."
            return f"{command} does not use {name}{guess} It uses {', '.join([*used, *EVERYWHERE])}"
    for target in targets:
        settings: dict[str, str] = {}
        for name in (name for name in variables if name in target.variables):
            other = settings.setdefault(target.variables[name], name)
            if other != name:
                return f"{command} takes {other} or {name}, not both"
    return ""


def arguments(target: Target, values: Mapping[str, str]) -> Iterator[str]:
    """Arguments that the variables of a target set; an empty value counts as not given.

    Raises:
        ValueError: if ARGS has an open quote.
    """
    for name, argument in target.variables.items():
        value = values.get(name, "")
        if name == "ARGS":
            yield from shlex.split(value)
        elif value:
            yield argument.format(value)


def run(name: str, python: Sequence[str]) -> None:
    """Replace this process by the command of target `name`."""
    target = TARGETS[name]
    try:
        words = [*python, *target.command, *arguments(target, os.environ)]
    except ValueError as error:
        print(f"error: ARGS must be words in shell syntax, got {os.environ['ARGS']}: {error}", file=sys.stderr)
        sys.exit(2)
    os.execvp(words[0], words)


def main() -> None:
    """Help, check or run."""
    action, *words = sys.argv[1:]
    if action == "help":
        print(describe())
    elif action == "check":
        print(find_problem(words[0].split(), words[1:]), end="")
    else:
        run(words[0], words[1:])


if __name__ == "__main__":
    main()
