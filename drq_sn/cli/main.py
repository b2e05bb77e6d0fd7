"""`drq-sn COMMAND ...`: one entry point for all commands. Imports each command when it is asked for."""

from __future__ import annotations

import importlib
import sys

import drq_sn
from drq_sn.cli.running.signals import exit_on_signals
from drq_sn.output import tolerate_broken_output

COMMANDS = {
    "train": "train one agent: drq-sn train task=cheetah_run agent=drqv2 head=modern4 normalizer=spectral",
    "sweep": "train many: drq-sn sweep task=walker_walk,cup_catch head=mlp2,modern4 seed=1,2,3",
    "evaluate": "play a run, finished or not: drq-sn evaluate run=runs/... weights=best video=true",
    "export": "write a run's policy as an ONNX file: drq-sn export run=runs/... out=policy.onnx",
    "report": "the papers' tables and figures, and diagnostics, from runs: drq-sn report runs=runs",
    "profile": "memory and time of heads, as Table 3: drq-sn profile agent=drq",
    "bench": "speed of updates, rendering and training: drq-sn bench",
    "fit-replay": "learn from the replay of a run, head by head: drq-sn fit-replay run=runs/...",
    "doctor": "what this machine has, and what is wrong with it",
}
RENAMED = {"diagnose": "report"}  # commands of earlier versions -> the present ones that replace them


def usage() -> str:
    """The commands, one line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: drq-sn COMMAND [option=value ...]", "", *lines, "", "drq-sn COMMAND --help lists its options."]
    )


def main() -> None:
    """Run the command that the first argument names; exit code 2 for an unknown one."""
    tolerate_broken_output()
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print(usage())
        return
    if command == "--version":
        print(drq_sn.__version__)
        return
    exit_on_signals()
    if command not in COMMANDS:
        from drq_sn import validation
        from drq_sn.cli.running.exit_codes import exit_on_expected_errors  # imports torch, which takes seconds

        with exit_on_expected_errors():
            if command in RENAMED:
                present = RENAMED[command]
                raise validation.InvalidInput(f"{command} has been replaced by {present}; use drq-sn {present} ...")
            validation.choice("command", command, COMMANDS)
    print(f"drq_sn {drq_sn.__version__}: {command}", flush=True)  # before the seconds that importing torch takes
    sys.argv = [f"drq-sn {command}", *arguments]
    module = importlib.import_module(f"drq_sn.cli.{command.replace('-', '_')}")
    from drq_sn.cli.running.exit_codes import run_command  # imports torch as well

    run_command(module.main)


if __name__ == "__main__":
    main()
