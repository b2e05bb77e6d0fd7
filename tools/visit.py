"""Everything a new machine with a GPU should be asked, in order of worth, unattended; what is done is not done again.

usage: visit.py [--out results] [--work visit] [--minutes 600] [--runs-per-gpu 4] [--try]

Results go to {out}/{machine}/: what each step said, its data, and visit.json with every step's command, date, duration,
exit code and the machine. A step that fails keeps none of the others from their turn, and the next visit tries it
again. Training uses CUDA graphs if the gpu tests have passed, else not. When the minutes are over, what runs is asked
to stop; training goes on at the next visit from its checkpoints, which lie in {work}/{machine}/runs.
--try goes through every step with the smallest numbers, to see on any machine that all of it works.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from drq_sn.cli.running.exit_codes import ExitCode
from drq_sn.runs import provenance
from drq_sn.runs.files import write_json

GRACE_SECONDS = 120.0  # for a step that is asked to stop: runs write checkpoints of half a gigabyte
RECORD, TESTS, REPORT, DONE = "visit.json", "gpu_tests", "report", "done"
ROOT = Path(__file__).resolve().parent.parent
NO_TESTS = 5  # pytest's exit code where none was selected
PAPER_TASKS = ("cup_catch", "cartpole_balance_sparse", "hopper_stand", "walker_walk", "reacher_easy")  # of Table 1
FASTEST = "runtime=cuda_graph"  # for learning, once its tests have passed on this machine
SAFEST = "runtime=eager"
LOGS = ("config.yaml", "run.json", "eval.csv", "train.csv", "diagnostics.csv")
TINY = "head.width=16 env.image_size=48"  # of --try
TINY_RUNS = f"""{TINY} num_train_frames=400 eval_every_frames=200 num_eval_episodes=1 num_random_steps=60 batch_size=8
    agent.num_filters=4 video_every_frames=0 seed=1"""
TINY_PROFILE = f"{TINY} heads=[mlp2] batch_size=4 num_updates=1 num_runs=1 num_acts=2 replay_steps=100"
TINY_BENCH = f"""{TINY} parts=[updates] agents=[drqv2] models=[{{head:mlp2,normalizer:none}}] runtimes=[eager]
    num_repeats=1 num_updates=1 batch_size=4 replay_steps=200"""


@dataclass(frozen=True)
class Step:
    """A command of a visit.

    Attributes:
        name: of its log, and what it is known by from visit to visit.
        words: the command after `python -m`.
        folder: where it runs.
        leaves: folder below `folder` whose files are results.
    """

    name: str
    words: tuple[str, ...]
    folder: Path
    leaves: str = ""


def steps(out: Path, work: Path, runs_per_gpu: int, smallest: bool) -> list[Step]:
    """Every step in order of worth.

    Args:
        out: folder of this machine's results.
        work: folder in which runs and checkpoints lie.
        runs_per_gpu: runs side by side.
        smallest: whether all numbers are the smallest that work.
    """

    def step(name: str, words: str, tiny: str = "", leaves: str = "") -> Step:
        return Step(name, (*words.split(), *(tiny.split() if smallest else ())), work, leaves)

    def learn(name: str, words: str, seeds: str) -> Step:
        ours = f"launcher.runs_per_gpu={runs_per_gpu} sweep_dir=sweeps/{name}"
        return step(name, f"drq_sn.cli.sweep {words} {ours}" + ("" if smallest else f" {seeds} {FASTEST}"), TINY_RUNS)

    return [
        step("doctor", "drq_sn.cli.doctor"),
        Step(TESTS, ("pytest", "-m", "gpu", "-p", "no:cacheprovider", *(["--collect-only"] if smallest else [])), ROOT),
        step("profile", "drq_sn.cli.profile agent=drq", TINY_PROFILE, "results/profile"),
        step("bench", "drq_sn.cli.bench", TINY_BENCH, "results/bench"),
        *(learn(f"learn_{task}", f"experiment=table1 task={task}", "seed=1,2,3") for task in PAPER_TASKS),
        learn("learn_drq", "experiment=table2 task=cheetah_run", "seed=1,2"),
        Step(REPORT, ("drq_sn.cli.report", f"runs=[{out / 'runs'}]", f"out={out / REPORT}", f"profiles=[{out}]"), ROOT),
    ]


def visit(plan: list[Step], out: Path, minutes: float) -> dict[str, dict]:
    """Take every step that is not done yet while there is time; returns what `visit.json` knows of all."""
    path = out / RECORD
    record = json.loads(path.read_text()) if path.is_file() else {"steps": {}}
    record["machine"] = provenance.describe(provenance.select_device("auto"))
    end = time.monotonic() + minutes * 60
    for step in plan:
        status = record["steps"].get(step.name, {}).get("status")
        always = step.name == REPORT  # of what there is by then
        if (status == DONE or time.monotonic() >= end) and not always:
            print(f"{step.name}: {'done already' if status == DONE else 'no time left'}", flush=True)
            continue
        if record["steps"].get(TESTS, {}).get("status") != DONE:
            step = replace(step, words=tuple(SAFEST if word == FASTEST else word for word in step.words))
        record["steps"][step.name] = take(step, out, None if always else end - time.monotonic())
        keep_logs(step.folder / "runs", out / "runs")
        write_json(path, record)
        print(f"{step.name}: {record['steps'][step.name]['status']}", flush=True)
    return record["steps"]


def take(step: Step, out: Path, seconds: float | None) -> dict:
    """One step: its log in `out`, its files beside it, and what `visit.json` says of it."""
    print(f"{step.name}: begins", flush=True)
    began, started = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    with (out / f"{step.name}.txt").open("ab") as log:
        command = [sys.executable, "-m", *step.words]
        process = subprocess.Popen(
            command, cwd=step.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        code, in_time = _wait(process, seconds)
    if step.leaves:
        _collect(step.folder / step.leaves, out / step.name)
    return {
        "status": "interrupted" if not in_time else DONE if code in (0, NO_TESTS) else "failed",
        "exit_code": code,
        "command": " ".join(["python", "-m", *step.words]).replace(f"{ROOT}/", ""),
        "date": began.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        "git_commit": provenance.git_commit(),
    }


def _wait(process: subprocess.Popen, seconds: float | None) -> tuple[int, bool]:
    """Exit code, and whether the process ended by itself."""
    try:
        return process.wait(seconds), True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(GRACE_SECONDS), False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(), False


def _collect(source: Path, target: Path) -> None:
    """Copy the files that lie somewhere below `source` into `target`, all together."""
    for file in sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith(".")):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / file.name)


def keep_logs(runs: Path, target: Path) -> None:
    """Copy what runs logged, without weights, checkpoints and films."""
    for name in LOGS:
        for file in runs.rglob(name):
            copy = target / file.relative_to(runs)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def main() -> None:
    """Visit this machine; the exit code is 0 if every step is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--work", type=Path, default=Path("visit"))
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--runs-per-gpu", type=int, default=4)
    parser.add_argument("--try", dest="smallest", action="store_true")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.smallest:
        print("error: no GPU that torch can use; --try goes through the steps on any machine", file=sys.stderr)
        sys.exit(ExitCode.INVALID_INPUT)
    name = provenance.slug(provenance.device_name(device)) + ("_try" if options.smallest else "")
    out, work = options.out.absolute() / name, options.work.absolute() / name
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    plan = steps(out, work, options.runs_per_gpu, options.smallest)
    known = visit(plan, out, options.minutes)
    sys.exit(any(known.get(step.name, {}).get("status") != DONE for step in plan))


if __name__ == "__main__":
    main()
