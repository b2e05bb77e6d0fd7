"""Train for hours under random kills, and record memory, file descriptors and checkpoints over time.

usage: python -m tests.endurance [--halves N] [--half-hours H] [--kill-minutes M] [--out DIR] [option=value ...]

Trains a small task with the laptop preset and a checkpoint every minute. SIGKILL comes at random, on average every M
minutes, and SIGTERM after each half; every time, the same command must resume from the newest checkpoint. The same
command continues an interrupted test. OUT holds `samples.csv`, `checkpoints.csv`, `events.csv` and the figure; exit
code 1 if a run did not resume or ended by itself.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from drq_sn.report.style import GREY, SMALL, add_legend, create_canvas, line_styles
from drq_sn.runs.reader import read_record
from tests.builders import ROOT, read_csv
from tests.fault_injection import LostError, append_row, checkpoint_frames, processes_of, resumed_frame

OPTIONS = [
    "task=cartpole_balance", "preset=laptop", "num_train_frames=2000000", "replay.capacity_steps=20000",
    "num_eval_episodes=2", "checkpoint_every_seconds=60",
]  # fmt: skip
SAMPLE_SECONDS, EXIT_SECONDS, SIGTERM_CODE = 30.0, 600, 143
MEGABYTE = 1e6
PANELS = {
    "memory, MB": {"memory_mb": "training process", "children_memory_mb": "its evaluation processes"},
    "open files and threads": {"num_files": "file descriptors", "num_threads": "threads"},
    "checkpoints, MB": {"checkpoint_mb": "directory checkpoint/", "written_mb": "written per checkpoint"},
    "seconds per checkpoint": {"seconds": "time without training"},
}
"""Title of a panel -> column of `samples.csv` or `checkpoints.csv` -> its label."""


class Endurance:
    """A run that is killed and resumed again and again.

    Args:
        out: directory of the run and of what is recorded.
        options: command line of the run, without its directory.
        half_hours: hours of training between two requested stops.
        kill_minutes: mean time from a start to a kill.
    """

    def __init__(self, out: Path, options: Sequence[str], half_hours: float, kill_minutes: float) -> None:
        self.out, self.run_dir = out, (out / "run").resolve()
        self._options, self._half_hours, self._kill_minutes = options, half_hours, kill_minutes
        samples = read_csv(out / "samples.csv") if (out / "samples.csv").exists() else []
        self._start = time.time() - (3600 * float(samples[-1]["hours"]) if samples else 0.0)

    @property
    def hours(self) -> float:
        """Hours since the start, without interruptions of this test."""
        return (time.time() - self._start) / 3600

    def train_until_stopped(self) -> None:
        """Start the command, check that it resumed, and stop it by a kill or at the end of a half.

        Raises:
            LostError: if it does not continue from the newest checkpoint, or ends by itself or otherwise.
        """
        frames, resumed_before = checkpoint_frames(self.run_dir)[-1:], num_resumed(self.run_dir)
        num_events = len(read_csv(self.out / "events.csv")) if (self.out / "events.csv").exists() else 0
        kill_hour = self.hours + random.Random(num_events).expovariate(60 / self._kill_minutes)
        half_end = (self.hours // self._half_hours + 1) * self._half_hours
        command = [sys.executable, "-m", "tests.endurance", "train", str(self.out), str(self._start)]
        with (self.out / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [*command, *self._options, f"run_dir={self.run_dir}"],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )
        try:
            self._record("start", frames)
            is_checked = not frames
            while process.poll() is None:
                time.sleep(min(SAMPLE_SECONDS, max(1.0, 3600 * (min(half_end, kill_hour) - self.hours))))
                self._sample(process.pid)
                if not is_checked and num_resumed(self.run_dir) > resumed_before:
                    self._record("resumed", [resumed_frame(self.run_dir, frames, resumed_before)])
                    is_checked = True
                has_continued = is_checked and checkpoint_frames(self.run_dir)[-1:] > (frames or [0])
                if self.hours >= half_end and has_continued:
                    return self._stop(process, signal.SIGTERM, SIGTERM_CODE)
                if self.hours >= kill_hour and has_continued:
                    return self._stop(process, signal.SIGKILL, -signal.SIGKILL)
            raise LostError(f"the run ended by itself with exit code {process.returncode}; see {self.out / 'log.txt'}")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(EXIT_SECONDS)

    def _stop(self, process: subprocess.Popen[bytes], number: signal.Signals, code: int) -> None:
        process.send_signal(number)
        if process.wait(EXIT_SECONDS) != code:
            raise LostError(f"exit code {process.returncode} after {number.name}")
        self._record(number.name, checkpoint_frames(self.run_dir)[-1:])

    def _record(self, event: str, frames: Sequence[int | None]) -> None:
        """Append to `events.csv`; `frames` holds the frame of a checkpoint or is empty."""
        row = {"hours": round(self.hours, 4), "event": event, "checkpoint_frame": frames[0] if frames else ""}
        append_row(self.out / "events.csv", row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)

    def _sample(self, pid: int) -> None:
        """Append to `samples.csv`, unless the process is starting or has just ended."""
        try:
            children = processes_of(pid).keys() - {pid}
            status = process_status(pid)
            row = {
                "hours": round(self.hours, 4),
                "memory_mb": status["VmRSS"] / 1000,
                "children_memory_mb": sum(process_status(child)["VmRSS"] for child in children) / 1000,
                "num_files": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
                "num_threads": status["Threads"],
                "num_children": len(children),
                "checkpoint_mb": num_bytes(self.run_dir / "checkpoint") / MEGABYTE,
                "run_mb": num_bytes(self.run_dir) / MEGABYTE,
            }
        except (OSError, KeyError):
            return
        append_row(self.out / "samples.csv", row)


def num_resumed(run_dir: Path) -> int:
    """How often the run was resumed, according to `run.json`."""
    return len(read_record(run_dir).get("resumed", []))


def process_status(pid: int) -> dict[str, int]:
    """The numbers in /proc/PID/status; memory in kB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def num_bytes(folder: Path) -> int:
    """Size of all files below `folder`; `OSError` if one vanishes meanwhile."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def train(out: str, start: str, *words: str) -> None:
    """The command `train`, which also appends the time and size of each checkpoint to `checkpoints.csv`."""
    from drq_sn.cli import train as command
    from drq_sn.cli.running.checkpointing import Session

    save = Session.save

    def timed(self, logger):
        begin = time.perf_counter()
        save(self, logger)
        row = {"hours": round((time.time() - float(start)) / 3600, 4)}
        row |= {"frame": self.loop.step * self.loop.action_repeat, "seconds": round(time.perf_counter() - begin, 4)}
        if self.store.bytes_written:  # else the last checkpoint is of this frame
            append_row(Path(out) / "checkpoints.csv", row | {"written_mb": self.store.bytes_written / MEGABYTE})

    Session.save = timed
    sys.argv = ["train", *words]
    command.main()


def read_rows(out: Path) -> pd.DataFrame:
    """All rows of `samples.csv` and `checkpoints.csv`."""
    return pd.concat([pd.read_csv(out / "samples.csv"), pd.read_csv(out / "checkpoints.csv")])


def draw(out: Path) -> None:
    """Write `endurance.png` and `.svg`: quantities over time; gray lines are kills, black ones stops."""
    rows, events = read_rows(out), pd.read_csv(out / "events.csv")
    canvas = create_canvas(9, 5)
    styles = line_styles([label for columns in PANELS.values() for label in columns.values()])
    handles = {}
    for axes, (title, columns) in zip(canvas.subplots(2, 2).flat, PANELS.items(), strict=True):
        for event, color in (("SIGKILL", GREY), ("SIGTERM", "black")):
            for hours in events["hours"][events["event"] == event]:
                axes.axvline(hours, color=color, linewidth=0.5, alpha=0.6)
        for column, label in columns.items():
            points = rows.dropna(subset=column)
            (handles[label],) = axes.plot(points["hours"], points[column], **{**styles[label], "linewidth": 1.0})
        axes.set_title(title, fontsize=SMALL)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=SMALL)
        axes.set_xlabel("hours", fontsize=SMALL)
    add_legend(canvas, handles)
    canvas.savefig(out / "endurance.png")
    canvas.savefig(out / "endurance.svg")


def summary(out: Path) -> str:
    """Kills and resumptions, and each quantity's median in every eighth of the time."""
    counts = pd.read_csv(out / "events.csv")["event"].value_counts()
    rows = read_rows(out)
    columns = [column for columns in PANELS.values() for column in columns]
    medians = rows[columns].groupby(pd.cut(rows["hours"], 8), observed=False).median()
    return f"{counts.to_string()}\n{medians.T.round(2).to_string()}"


def main() -> None:
    """Train both halves, then draw; exit code 1 if a run did not resume."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--halves", type=int, default=2)
    parser.add_argument("--half-hours", type=float, default=3.0)
    parser.add_argument("--kill-minutes", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("build/endurance"))
    parser.add_argument("options", nargs="*")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = [*OPTIONS, *arguments.options]
    endurance = Endurance(arguments.out, options, arguments.half_hours, arguments.kill_minutes)
    problem = ""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(SIGTERM_CODE))  # so that the run is stopped, too
    try:
        while endurance.hours < arguments.halves * arguments.half_hours:
            endurance.train_until_stopped()
    except LostError as error:
        problem = f"lost: {error}"
    if (arguments.out / "checkpoints.csv").exists():
        draw(arguments.out)
        print(summary(arguments.out), flush=True)
    sys.exit(problem)


if __name__ == "__main__":
    train(*sys.argv[2:]) if sys.argv[1:2] == ["train"] else main()
