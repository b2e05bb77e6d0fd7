"""Kill, stop, damage and starve runs, and compare what survives with a run that met no fault.

usage: python -m tests.fault_injection [--faults N] [--seed N] [--out DIR]

Fault number k depends on the seed and k only. Each is one line on stdout and one row of OUT/faults.csv; the same
command continues an interrupted series. First, the harness is tested: a version that cannot resume must be reported.
The run without faults is the command itself; the others are forked from a process that has imported the package.

Outcomes: `identical`, as the run without faults in every logged column but clocks and every weight, bit for bit;
`announced`, a warning or exit code says what was lost, and nothing else was; `lost`, anything else. A run that had
a checkpoint must continue from it: one that starts over is lost, even though its results are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from drq_sn.runs.reader import read_record
from drq_sn.runs.status import Status
from tests.builders import CLOCKS, ROOT, read_csv, run_module

ACTION_REPEAT = 2
LIMIT_SECONDS = 600  # of one process; machines of a CI stall
EXIT_SECONDS = 20  # for the child processes of a run that was killed
NUM_ATTEMPTS = 3  # at a kill before the run has finished
SIGTERM_CODE, DISK_FULL = 143, 4
LOGS, WEIGHTS = ("train.csv", "eval.csv", "diagnostics.csv"), ("weights.pt", "best.pt")
COUNTING = ("frame", "step", "episode", "num_steps", "num_updates")  # columns that do not depend on what is learned
GAP, DAMAGED_BEST = "resumes without these steps", "best evaluation from now on replaces it"


class Setting(NamedTuple):
    """What is trained: the length of the run, with an evaluation in the middle, and the other options."""

    num_frames: int
    options: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The command line, without a run directory."""
        half = self.num_frames // 2
        return [f"num_train_frames={self.num_frames}", f"eval_every_frames={half}", *TINY, *self.options]

    @property
    def often(self) -> str:
        """An option for fifteen checkpoints in a run."""
        return f"checkpoint_every_frames={self.num_frames // 15}"

    @property
    def seldom(self) -> str:
        """An option for five checkpoints in a run, each with a part of the replay of its own."""
        return f"checkpoint_every_frames={self.num_frames // 5}"


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.faulty_run"])
TINY = [
    "num_eval_episodes=2", "num_eval_processes=1", "num_random_steps=40", "head.width=16", "env.image_size=24",
    "agent.num_filters=4", "diagnose_states=64", "video_every_frames=0", "device=cpu", "replay.capacity_steps=100",
]  # fmt: skip
POINT = ("task=synthetic_point", "head=mlp2")
SETTINGS = {
    "one thread": Setting(300, (*POINT, "batch_size=8", "num_threads=1")),
    "two threads": Setting(300, (*POINT, "batch_size=16", "num_threads=2")),
    "MuJoCo": Setting(
        200,
        ("task=cartpole_balance", "env.time_limit_frames=50", "env.shadows=false", "env.reflections=false",
         "head=modern2", "batch_size=8", "num_threads=1"),
    ),
}  # fmt: skip
SETTING_SHARES = (3, 1, 1)


class LostError(Exception):
    """A fault cost a run more than it may; the message says what."""


def require(ok: bool, problem: str) -> None:
    """Raise `LostError` unless `ok`."""
    if not ok:
        raise LostError(problem)


@dataclass
class Trial:
    """One fault and what became of the run; the fields are the columns of `faults.csv`.

    Attributes:
        exit_code: of the process that met the fault.
        checkpoint_frame: frame of the newest checkpoint on disk after the fault; None if there is none.
        resumed_frame: where `run.json` says that the run was resumed; None if it was not.
        problem: why the run counts as lost.
    """

    number: int
    fault: str
    setting: str
    detail: str = ""
    exit_code: int | None = None
    checkpoint_frame: int | None = None
    resumed_frame: int | None = None
    outcome: str = "lost"
    problem: str = ""
    seconds: float = 0.0
    run_dir: Path = field(default=Path(), repr=False)

    def row(self) -> dict[str, object]:
        """The row of `faults.csv`."""
        return {name: value for name, value in vars(self).items() if name != "run_dir"}

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.row().items() if value not in (None, ""))


class Faults:
    """Runs under fault, in a folder of their own.

    Args:
        folder: where runs go; those that were not lost are deleted.
        seed: of the choice of faults.
        mutation: a defect of `tests.faulty_run` in every process that has to resume, to test the harness.
    """

    def __init__(self, folder: Path, seed: int = 0, mutation: str | None = None) -> None:
        self.folder, self.seed, self.mutation = folder, seed, mutation
        self._references: dict[str, tuple[Result, dict[str, int]]] = {}
        self._stopped: dict[str, Path] = {}  # setting -> a run that was killed when it had several checkpoints

    def try_one(self, number: int, fault: str | None = None, setting: str | None = None) -> Trial:
        """Try fault `number`, of the given kind and setting or of random ones."""
        self.random = random.Random(f"{self.seed}/{number}")
        start = time.monotonic()
        name = setting or self.random.choices(list(SETTINGS), SETTING_SHARES)[0]
        fault = fault or self.random.choices(list(FAULTS), [weight for weight, _ in FAULTS.values()])[0]
        name = "one thread" if fault == "full disk" else name  # whose files have the sizes that it needs
        trial = Trial(number, fault, name, run_dir=self._new_folder(f"fault_{number}") / "run")
        try:
            trial.outcome = FAULTS[fault][1](self, trial)
        except LostError as error:
            trial.problem = " ".join(str(error).split())
        else:
            shutil.rmtree(trial.run_dir.parent)
        trial.seconds = round(time.monotonic() - start, 1)
        return trial

    def _new_folder(self, name: str) -> Path:
        folder = self.folder / name.replace(" ", "_")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    # faults

    def kill_at_random(self, trial: Trial) -> str:
        """SIGKILL at a random moment after a random checkpoint."""
        setting = SETTINGS[trial.setting]
        for _ in range(NUM_ATTEMPTS):
            shutil.rmtree(trial.run_dir, ignore_errors=True)
            frame, wait = self.random.randrange(1, setting.num_frames * 9 // 10), self.random.uniform(0, 0.2)
            trial.detail = f"{wait:.2f} s after the first checkpoint from frame {frame} on"
            self._stop_from(frame, trial, setting.often, signal.SIGKILL, wait)
            if trial.exit_code == -signal.SIGKILL:
                return self._resume(trial, setting.often)
        raise LostError(f"the kill did not land: exit code {trial.exit_code}")

    def kill_while_writing(self, trial: Trial) -> str:
        """SIGKILL in the middle of writing, before or after a rename."""
        often, opportunities = SETTINGS[trial.setting].often, self._reference(trial.setting)[1]
        stage = self.random.choice(list(opportunities))
        number = self.random.randint(1, opportunities[stage])
        trial.detail = f"{stage} {number} of {opportunities[stage]}"
        self._train(trial, often, stage=stage, number=number)
        require(trial.exit_code == -signal.SIGKILL, f"the kill did not land: exit code {trial.exit_code}")
        return self._resume(trial, often)

    def damage(self, trial: Trial) -> str:
        """Truncate, change or remove one file of a killed run."""
        setting = SETTINGS[trial.setting]
        if trial.setting not in self._stopped:
            stopped = Trial(0, "", trial.setting, run_dir=self._new_folder(f"stopped {trial.setting}") / "run")
            self._stop_from(setting.num_frames * 3 // 5, stopped, setting.seldom, signal.SIGKILL)
            if stopped.exit_code != -signal.SIGKILL or len(checkpoint_frames(stopped.run_dir)) < 2:
                raise RuntimeError(f"the run to be damaged has no two checkpoints: exit code {stopped.exit_code}")
            self._stopped[trial.setting] = stopped.run_dir
        shutil.copytree(self._stopped[trial.setting], trial.run_dir)
        trial.exit_code = -signal.SIGKILL
        files = [path for path in sorted(trial.run_dir.rglob("*")) if path.is_file() and path.stat().st_size]
        saved = [path for path in files if "checkpoint" in path.parts]
        path = self.random.choice(saved if self.random.random() < 0.8 else files)
        kind = self.random.choice(["truncate", "flip a bit of", "remove"])
        trial.detail = f"{kind} {path.relative_to(trial.run_dir)}"
        data = bytearray(path.read_bytes())
        if kind == "truncate":
            path.write_bytes(data[: self.random.randrange(len(data))])
        elif kind == "remove":
            path.unlink()
        else:
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            path.write_bytes(data)
        return self._resume(trial, setting.seldom, accepted=checkpoint_frames(trial.run_dir, "[0-9]*.*"))

    def terminate(self, trial: Trial) -> str:
        """SIGTERM at a random moment."""
        setting = SETTINGS[trial.setting]
        frame = self.random.randrange(1, setting.num_frames // 2)
        trial.detail = f"after the first checkpoint from frame {frame} on"
        self._stop_from(frame, trial, setting.often, signal.SIGTERM)
        require(trial.exit_code == SIGTERM_CODE, f"exit code {trial.exit_code}")
        return self._resume(trial, setting.often)

    def terminate_while_filming(self, trial: Trial) -> str:
        """SIGTERM during an evaluation that is being filmed."""
        frame = SETTINGS[trial.setting].num_frames // 2
        trial.detail, film = f"frame {frame}", f"video_every_frames={frame}"
        with self._started(trial, film, "num_eval_processes=2") as (process, finish):
            while not (trial.run_dir / "video" / f".{frame}.mp4").exists() and process.is_alive():
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGTERM)
            finish()
        require(trial.exit_code == SIGTERM_CODE, f"exit code {trial.exit_code}")
        return self._resume(trial, film)

    def fill_disk(self, trial: Trial) -> str:
        """A file system too small for the next checkpoint, then larger."""
        often, disk = SETTINGS[trial.setting].often, trial.run_dir.parent / "disk"
        disk.mkdir()
        size = self.random.randrange(800, 1000)
        trial.run_dir, trial.detail = disk / "run", f"{size} kB"
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            trial.problem = "not tried: no file system can be mounted here (needs root)"
            return "skipped"
        try:
            text = self._train(trial, often)
            is_announced = "no space left" in text and "Traceback" not in text
            require(trial.exit_code == DISK_FULL and is_announced, f"exit code {trial.exit_code}: {text[-300:]}")
            require(checkpoint_frames(trial.run_dir) != [], "no checkpoint was kept")
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            return self._resume(trial, often)
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    # processes

    @contextlib.contextmanager
    def _started(self, trial: Trial, *words: str, **spec: object) -> Iterator[tuple[Any, Callable[[], str]]]:
        """A process that trains, in a session of its own, and a function that waits for its end.

        The function sets `trial.exit_code` (minus the number of a signal) and returns output and errors.
        """
        from tests import faulty_run  # imports a lot

        log = trial.run_dir.with_name(f"{trial.run_dir.name}.log")
        line = [*SETTINGS[trial.setting].words, f"run_dir={trial.run_dir}", *words]
        process = FORKS.Process(target=faulty_run.run, args=(line, str(log)), kwargs=spec)
        process.start()

        def finish() -> str:
            process.join(LIMIT_SECONDS)
            trial.exit_code = process.exitcode
            if trial.exit_code is None:
                raise LostError(f"no end within {LIMIT_SECONDS} s: {log.read_text()[-300:]}")
            deadline = time.monotonic() + EXIT_SECONDS
            while left := processes_of(process.pid):
                require(time.monotonic() < deadline, f"processes left behind: {', '.join(left.values())}")
                time.sleep(0.05)
            return log.read_text()

        try:
            yield process, finish
        finally:
            process.kill()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()

    def _train(self, trial: Trial, *words: str, **spec: object) -> str:
        """One call of the command, to whatever end it comes to; `spec` is that of `faulty_run.run`."""
        with self._started(trial, *words, **spec) as (_, finish):
            return finish()

    def _stop_from(self, frame: int, trial: Trial, option: str, number: int, wait: float = 0.0) -> None:
        """Send a signal `wait` seconds after a checkpoint at `frame` or later is on disk."""
        with self._started(trial, option) as (process, finish):
            while max(checkpoint_frames(trial.run_dir), default=0) < frame and process.is_alive():
                time.sleep(0.005)
            time.sleep(wait)
            os.kill(process.pid, number)
            finish()

    def _resume(self, trial: Trial, *words: str, accepted: list[int] | None = None) -> str:
        """Bring a run to its end with the same command and compare it with the reference; return the outcome.

        Args:
            trial: the run, after its fault.
            words: further options.
            accepted: frames where it may resume; by default that of the newest checkpoint only, or none if
                the run had finished before the fault.

        Raises:
            LostError: if it does not finish, does not continue, or ends with another result.
        """
        frames = checkpoint_frames(trial.run_dir)
        trial.checkpoint_frame = frames[-1] if frames else None
        if accepted is None:
            accepted = [] if read_record(trial.run_dir).get("status") == Status.FINISHED else frames[-1:]
        twin = trial.run_dir.with_name("twin")
        shutil.copytree(trial.run_dir, twin)
        text = self._finish(trial, *words)
        trial.resumed_frame = resumed_frame(trial.run_dir, accepted)
        result, reference = result_of(trial.run_dir), self._reference(trial.setting)[0]
        if GAP in text:
            require_same_before(trial.resumed_frame or 0, trial.run_dir, result, reference)
            self._finish(replace(trial, run_dir=twin), *words)
            require_same(result, result_of(twin))
            return "announced"
        if DAMAGED_BEST in text:
            result, reference = ({k: v for k, v in r.items() if "best.pt" not in k} for r in (result, reference))
        require_same(result, reference)
        return "announced" if DAMAGED_BEST in text else "identical"

    def _finish(self, trial: Trial, *words: str) -> str:
        again = replace(trial)  # keeps the exit code of the fault
        text, status = self._train(again, *words, mutation=self.mutation), read_record(trial.run_dir).get("status")
        is_finished = again.exit_code == 0 and status == Status.FINISHED
        require(is_finished, f"exit code {again.exit_code}, status {status}: {text[-300:]}")
        return text

    def _reference(self, setting: str) -> tuple[Result, dict[str, int]]:
        """Result of the run without faults, and how often files are written, synced and renamed in it."""
        if setting not in self._references:
            folder = self._new_folder(f"reference {setting}")
            words = [*SETTINGS[setting].words, f"run_dir={folder / 'run'}"]
            command = run_module("drq_sn.cli.train", *words, cwd=ROOT)
            trial = Trial(0, "none", setting, run_dir=folder / "counted")
            text = self._train(trial, SETTINGS[setting].often, stage="count")
            if (command.returncode, trial.exit_code) != (0, 0):
                raise RuntimeError(f"a run without faults failed: {command.stderr[-1000:]}\n{text[-1000:]}")
            result = result_of(folder / "run")
            require_same(result_of(trial.run_dir), result)  # else faults could not be told from chance
            (counts,) = re.findall(r"^opportunities: (.*)$", text, re.M)
            self._references[setting] = result, json.loads(counts)
        return self._references[setting]


FAULTS: dict[str, tuple[int, Callable[[Faults, Trial], str]]] = {
    "kill at a random moment": (6, Faults.kill_at_random),
    "kill while writing": (6, Faults.kill_while_writing),
    "damaged file": (6, Faults.damage),
    "SIGTERM": (2, Faults.terminate),
    "SIGTERM while evaluating with a video": (1, Faults.terminate_while_filming),
    "full disk": (1, Faults.fill_disk),
}
"""Kind of fault -> its share, and what causes it."""

Result = dict[str, object]
"""`LOG:COLUMN` -> cells, `WEIGHTS:TENSOR` -> bytes."""


def result_of(run_dir: Path) -> Result:
    """What must not depend on faults: all three logs without clocks, column by column, and every weight."""
    result: Result = {}
    for log in LOGS:
        rows = read_csv(run_dir / log, without=CLOCKS)
        names = dict.fromkeys(itertools.chain.from_iterable(rows))
        result |= {f"{log}:{name}": tuple(row.get(name) for row in rows) for name in names}
    for file in WEIGHTS:
        content = torch.load(run_dir / file)
        result |= {f"{file}:{name}": value.numpy().tobytes() for name, value in content["networks"].items()}
        result |= {f"{file}:{name}": content[name] for name in ("frame", "episode_return")}
    return result


def differences(result: Result, expected: Result) -> list[str]:
    """Names of the columns and tensors that differ or are in one of the two only."""
    return [name for name in expected | result if result.get(name) != expected.get(name)]


def require_same(result: Result, expected: Result) -> None:
    """Raise `LostError` if results differ."""
    different = differences(result, expected)
    require(not different, f"ended with another result: {', '.join(different[:3])} ({len(different)} in all)")


def require_same_before(frame: int, run_dir: Path, result: Result, reference: Result) -> None:
    """Raise `LostError` unless rows up to `frame`, and everywhere the columns that count, are the reference's."""
    for name, expected in reference.items():
        log, _, column = name.partition(":")
        if log in LOGS:
            num_rows = sum(int(row["frame"]) <= frame for row in read_csv(run_dir / log))
            end = None if column in COUNTING else num_rows
            same = (result.get(name) or ())[:end] == expected[:end]  # type: ignore[index]  # cells of a column
            require(same, f"{name} differs before the gap, or in its number of rows")


def checkpoint_frames(run_dir: Path, pattern: str = "[0-9]*.json") -> list[int]:
    """Frames of all checkpoints with a file like `pattern` on disk, by default the manifest; ascending."""
    return sorted(int(path.stem) * ACTION_REPEAT for path in (run_dir / "checkpoint").glob(pattern))


def resumed_frame(run_dir: Path, accepted: Sequence[int], num_before: int = 0) -> int | None:
    """Where `run.json` says that the run was resumed, which must be one of `accepted`; None if both are empty.

    Args:
        run_dir: run directory.
        accepted: frames of checkpoints.
        num_before: how often it had been resumed before.

    Raises:
        LostError: if the run started over, or continued elsewhere.
    """
    resumed = [entry["frame"] for entry in read_record(run_dir).get("resumed", [])][num_before:]
    if not accepted and not resumed:
        return None
    if not resumed:
        raise LostError(f"started over, although there was a checkpoint of frame {accepted[-1]}")
    has_continued = len(resumed) == 1 and resumed[0] in accepted and resumed[0] > 0
    require(has_continued, f"resumed at frame {resumed}; there were checkpoints of {accepted}")
    return int(resumed[0])


def processes_of(session: int) -> dict[int, str]:
    """Process id -> name, of the living processes of a session."""
    names = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            match = re.match(r"(\d+) \((.*)\) (\S) \d+ \d+ (\d+)", path.read_text(), re.S)
            if match and int(match[4]) == session and match[3] not in "ZX":
                names[int(match[1])] = match[2]
    return names


def self_test(folder: Path) -> Trial:
    """A version that cannot resume must be reported as lost, although its results are right."""
    trial = Faults(folder, mutation="no_resume").try_one(0, "kill at a random moment", "one thread")
    reported = trial.problem.startswith("started over")
    trial.fault = "self-test: resumption disabled"
    trial.outcome, trial.problem = ("reported", "") if reported else ("lost", f"not reported: {trial.problem}")
    shutil.rmtree(trial.run_dir.parent, ignore_errors=True)
    return trial


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append `row` to a CSV file; None is empty."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    """Try faults; exit code 1 if a run was lost, or if the harness does not notice a version that cannot resume."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/faults"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path, folder = arguments.out / "faults.csv", (arguments.out / "runs").resolve()
    done = {int(row["number"]) for row in read_csv(path)} if path.exists() else set()
    # threads that wait without spinning: with other work on the cores, spinning ones take minutes for seconds of work
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    faults = Faults(folder, arguments.seed)
    for number in sorted(set(range(arguments.faults + 1)) - done):
        trial = faults.try_one(number) if number else self_test(folder)
        append_row(path, trial.row())
        print(trial, flush=True)
        if trial.outcome == "lost" and not number:
            sys.exit("the harness does not notice that resumption is disabled")
    rows = pd.read_csv(path)
    print(pd.crosstab(rows["fault"], rows["outcome"], margins=True).to_string(), flush=True)
    sys.exit(bool((rows["outcome"] == "lost").any()))


if __name__ == "__main__":
    main()
