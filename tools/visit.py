"""Measure and train on a machine with a GPU, unattended, for a limited time; the next visit resumes.

usage: visit.py [--minutes 600]

Steps in order: the GPU tests, bench, profile at the paper's batch of 512, and DrQ-v2 at the published setting with
`mlp2`, `modern4` and `modern4` + SN, one seed each, in parallel on the GPU: `cartpole_balance_sparse` to 60 000 frames,
then `cup_catch` and `walker_walk` to 500 000. A short visit gets through the first four. A failed step does not stop
the others and is retried at the next visit. When the time is over, the running step is told to stop; training resumes
from its checkpoints at the next visit.

bench and profile write to results/ as always. results/visit/{machine}/ gets the output of each step, the logs of the
runs without weights and checkpoints, and visit.json: the machine, and each step's command, date, duration, exit code
and commit. Runs and checkpoints stay in visit/{machine}/. Training uses CUDA graphs if the GPU tests have passed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from drq_sn.cli.running.exit_codes import ExitCode
from drq_sn.runs import provenance
from drq_sn.runs.files import write_json

ROOT = Path(__file__).resolve().parent.parent
GRACE = "--kill-after=120"  # seconds from SIGTERM to SIGKILL: runs write checkpoints of half a gigabyte
RUN_LOGS = {"config.yaml", "run.json", "eval.csv", "train.csv", "diagnostics.csv"}
TABLE1 = "experiment=table1 seed=1 launcher.runs_per_gpu=3"  # DrQ-v2, three heads
GPU_TESTS, CUDA_GRAPH = "gpu_tests", "runtime=cuda_graph"


class Step(NamedTuple):
    """A step of a visit.

    Attributes:
        name: of its log, and its key in visit.json.
        arguments: of the Python interpreter.
        folder: working directory.
    """

    name: str
    arguments: list[str]
    folder: Path


def plan(work: Path) -> list[Step]:
    """Steps in order of priority; runs are trained below `work`."""

    def train(task: str, num_frames: int) -> Step:
        options = f"task={task} num_train_frames={num_frames} sweep_dir=sweeps/{task} {CUDA_GRAPH}"
        return Step(task, f"-m drq_sn.cli.main sweep {TABLE1} {options}".split(), work)

    return [
        Step(GPU_TESTS, ["-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"], ROOT),
        Step("bench", ["-m", "drq_sn.cli.main", "bench"], ROOT),
        Step("profile", ["-m", "drq_sn.cli.main", "profile", "agent=drq", "batch_size=512"], ROOT),
        train("cartpole_balance_sparse", 60_000),
        train("cup_catch", 500_000),
        train("walker_walk", 500_000),
    ]


def visit(steps: list[Step], work: Path, out: Path, minutes: float) -> bool:
    """Run every step that is not finished yet while there is time; return whether all are finished."""
    path = out / "visit.json"
    record = json.loads(path.read_text()) if path.exists() else {"steps": {}}
    record["machine"] = provenance.describe(provenance.select_device("auto"))
    exit_codes = {name: entry["exit_code"] for name, entry in record["steps"].items()}
    deadline = time.monotonic() + 60 * minutes
    for name, arguments, folder in steps:
        seconds = deadline - time.monotonic()
        if exit_codes.get(name) == 0 or seconds <= 0:
            print(f"{name}: {'finished earlier' if exit_codes.get(name) == 0 else 'no time left'}", flush=True)
            continue
        print(f"{name}: started", flush=True)
        if exit_codes.get(GPU_TESTS) != 0:
            arguments = [argument for argument in arguments if argument != CUDA_GRAPH]
        date, start = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
        limit = ["timeout", "--foreground", "--preserve-status", GRACE, str(seconds)]
        with (out / f"{name}.txt").open("ab") as log:
            command = [*limit, sys.executable, *arguments]
            exit_codes[name] = subprocess.call(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        record["steps"][name] = {
            "exit_code": exit_codes[name],
            "command": " ".join(["python", *arguments]),
            "date": date.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start, 1),
            "git_commit": provenance.git_commit(),
        }
        copy_run_logs(work / "runs", out / "runs")
        write_json(path, record)
        print(f"{name}: exit code {exit_codes[name]}", flush=True)
    return all(exit_codes.get(step.name) == 0 for step in steps)


def copy_run_logs(runs: Path, target: Path) -> None:
    """Copy the logs of all runs below `runs`, without weights, checkpoints and videos."""
    for file in runs.rglob("*"):
        if file.name in RUN_LOGS:
            copy = target / file.relative_to(runs)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def main() -> None:
    """Visit this machine; exit code 0 if all steps are finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=600.0)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("error: a visit needs a GPU that torch can use", file=sys.stderr)
        sys.exit(ExitCode.INVALID_INPUT)
    machine = provenance.slug(provenance.device_name(torch.device("cuda")))
    work, out = ROOT / "visit" / machine, ROOT / "results" / "visit" / machine
    for folder in (work, out):
        folder.mkdir(parents=True, exist_ok=True)
    sys.exit(0 if visit(plan(work), work, out, options.minutes) else 1)


if __name__ == "__main__":
    main()
