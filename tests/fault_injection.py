"""Kill, corrupt and starve runs, and compare what survives with a run that met no fault.

usage: python -m tests.fault_injection [--kills N] [--corruptions N] [--seed N]

Prints how many faults were tried, how many runs were lost, and how the survivors compare bit for
bit. A run is lost when the same command no longer brings it to its end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from drq_sn.runs.reader import read_record
from drq_sn.runs.status import Status

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "task=synthetic_point", "num_train_frames=1000", "eval_every_frames=500", "num_eval_episodes=2",
    "num_random_steps=60", "batch_size=8", "head.width=16", "env.image_size=24", "agent.num_filters=4",
    "video_every_frames=500", "device=cpu", "num_threads=1", "replay.capacity_steps=200", "head=mlp2",
]  # fmt: skip
OFTEN, SELDOM = "checkpoint_every_frames=40", "checkpoint_every_frames=150"
CLOCKS = {"wall_time_s", "frames_per_second", "seconds"}
SIGKILL, SIGTERM_CODE, DIVERGED, DISK_FULL = -9, 143, 3, 4
MODULE = [sys.executable, "-m"]


class Faults:
    """Runs under fault, in a folder of their own.

    Args:
        folder: where runs go.
        seed: of the choice of faults.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.tried: Counter[str] = Counter()
        self.lost: list[str] = []
        self.identical = self.with_gaps = self._number = 0
        assert self.train(folder / "whole").returncode == 0
        self.whole = outcome(folder / "whole")

    def train(
        self, run_dir: Path, *words: str, fault: tuple[str, int] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One call of the command, to whatever end it comes to."""
        module = (
            ["tests.faulty_run", json.dumps({"stage": fault[0], "number": fault[1]})] if fault else ["drq_sn.cli.train"]
        )
        return subprocess.run(
            [*MODULE, *module, *WORDS, f"run_dir={run_dir}", *words], capture_output=True, text=True, cwd=ROOT
        )

    def survives(self, name: str, run_dir: Path, *words: str) -> bool:
        """Bring the run in `run_dir` to its end with the same command, and compare."""
        result = self.train(run_dir, *words)
        if result.returncode != 0 or read_record(run_dir).get("status") != Status.FINISHED:
            self.lost.append(f"{name}: {result.stderr[-300:]}")
            return False
        if "resumes without these steps" in result.stderr:
            self.with_gaps += 1
        elif outcome(run_dir) == self.whole:
            self.identical += 1
        else:
            self.lost.append(f"{name}: ended, but with another result")
            return False
        return True

    def kill_at_random(self) -> bool:
        """SIGKILL at a random moment."""
        self.tried["kill at a random moment"] += 1
        run_dir = self._new("killed")
        process = subprocess.Popen(
            [*MODULE, "drq_sn.cli.train", *WORDS, f"run_dir={run_dir}", OFTEN],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (run_dir / "checkpoint").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(self.random.uniform(0, 3))
        process.kill()
        process.wait()
        return self.survives("kill at a random moment", run_dir, OFTEN)

    def kill_while_writing(self) -> bool:
        """SIGKILL in the middle of writing, before or after a rename."""
        stage = self.random.choice(["write", "fsync", "replace"])
        number = self.random.randint(1, 60)
        self.tried[f"kill while writing ({stage})"] += 1
        run_dir = self._new("killed")
        code = self.train(run_dir, OFTEN, fault=(stage, number)).returncode
        assert code in (SIGKILL, 0), code
        return self.survives(f"kill at {stage} {number}", run_dir, OFTEN)

    def corrupt(self) -> bool:
        """Truncate, change or remove one file of a stopped run."""
        if not (self.folder / "stopped").exists():
            assert self.train(self.folder / "stopped", SELDOM, fault=("fsync", 32)).returncode == SIGKILL
        run_dir = self._new("corrupted")
        shutil.copytree(self.folder / "stopped", run_dir)
        spared = (".mp4", "best.pt")  # a damaged best.pt gives way, with a warning, to the best evaluation from then on
        paths = [path for path in sorted(run_dir.rglob("*")) if path.is_file() and not path.name.endswith(spared)]
        files = [path for path in paths if path.stat().st_size > 0]
        path = self.random.choice(
            [p for p in files if "checkpoint" in p.parts] if self.random.random() < 0.8 else files
        )
        kind = self.random.choice(["truncate", "flip a bit", "remove"])
        self.tried[f"{kind}"] += 1
        data = bytearray(path.read_bytes())
        if kind == "truncate":
            path.write_bytes(data[: self.random.randrange(len(data))])
        elif kind == "flip a bit":
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            path.write_bytes(data)
        else:
            path.unlink()
        return self.survives(f"{kind} {path.relative_to(run_dir)}", run_dir, SELDOM)

    def fill_disk(self) -> bool | None:
        """A file system too small for the next checkpoint, then larger; None where none can be mounted."""
        disk = self._new("disk")
        disk.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(disk)], capture_output=True
        ).returncode:
            return None
        try:
            self.tried["full disk"] += 1
            run_dir = disk / "run"
            result = self.train(run_dir, OFTEN, "video_every_frames=0")
            said = (
                result.returncode == DISK_FULL and "no space left" in result.stderr and "Traceback" not in result.stderr
            )
            kept = list((run_dir / "checkpoint").glob("*.json"))
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            if not said or not kept:
                self.lost.append(f"full disk: {result.returncode}, {len(kept)} checkpoints: {result.stderr[-300:]}")
                return False
            return self.survives("full disk", run_dir, OFTEN, "video_every_frames=0")
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def terminate_while_filming(self) -> bool:
        """SIGTERM during an evaluation that is being filmed."""
        self.tried["SIGTERM while evaluating and filming"] += 1
        run_dir = self._new("terminated")
        process = subprocess.Popen(
            [*MODULE, "drq_sn.cli.train", *WORDS, f"run_dir={run_dir}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (run_dir / "video" / ".500.mp4").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=20)
        if code != SIGTERM_CODE:
            self.lost.append(f"SIGTERM: exit code {code}")
            return False
        return self.survives("SIGTERM", run_dir)

    def poison(self) -> bool:
        """A weight that is no number: the run must end as diverged, and say so again when called again."""
        self.tried["a weight that is not a number"] += 1
        run_dir = self._new("poisoned")
        codes = [self.train(run_dir, fault=("nan", 100)).returncode, self.train(run_dir).returncode]
        kept = (run_dir / "checkpoint" / "diverged.pt").exists()
        if codes != [DIVERGED, DIVERGED] or not kept:
            self.lost.append(f"not a number: exit codes {codes}, kept {kept}")
        return codes == [DIVERGED, DIVERGED] and kept

    def kill_encoder(self) -> bool:
        """The film's encoder, the one other process of a run, killed."""
        self.tried["the film's encoder killed"] += 1
        run_dir = self._new("encoder")
        result = self.train(run_dir, fault=("encoder", 20))
        if result.returncode != 0 or "the encoder failed" not in result.stderr:
            self.lost.append(f"encoder: {result.stderr[-300:]}")
            return False
        return self.survives("encoder", run_dir)

    def report(self) -> str:
        """All faults, and what became of the runs."""
        lines = [f"{count:4d}  {name}" for name, count in sorted(self.tried.items())]
        lines.append(f"{self.tried.total():4d}  faults tried, {len(self.lost)} runs lost")
        lines.append(f"      {self.identical} runs ended bit for bit as the one without faults;")
        lines.append(f"      {self.with_gaps} went on, with a warning, without damaged steps of the replay")
        return "\n".join(lines + [f"lost: {line}" for line in self.lost])

    def _new(self, name: str) -> Path:
        self._number += 1
        return self.folder / f"{name}_{self._number}"


def rows(path: Path) -> list[dict[str, str]]:
    """A log without its clocks."""
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(path.read_text().splitlines())]


def outcome(run_dir: Path) -> tuple[object, ...]:
    """What must not depend on faults: both logs without clocks, and every weight."""
    files = [torch.load(run_dir / name)["networks"] for name in ("weights.pt", "best.pt")]
    return (
        rows(run_dir / "train.csv"),
        rows(run_dir / "eval.csv"),
        rows(run_dir / "diagnostics.csv"),
        [{name: value.numpy().tobytes() for name, value in weights.items()} for weights in files],
    )


def main() -> None:
    """Try everything; exit code 1 if a run was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--corruptions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(Path(folder), arguments.seed)
        for i in range(arguments.kills):
            faults.kill_at_random() if i % 2 else faults.kill_while_writing()
        for _ in range(arguments.corruptions):
            faults.corrupt()
        if faults.fill_disk() is None:
            print("full disk not tried: no small file system can be mounted here (needs root)")
        for fault in (faults.terminate_while_filming, faults.poison, faults.kill_encoder):
            fault()
        print(faults.report())
    sys.exit(1 if faults.lost else 0)


if __name__ == "__main__":
    main()
