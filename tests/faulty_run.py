"""Training with a fault built in, in a process forked from one that has imported everything.

Stages: the process kills itself at the given call of `write` (half of the data written), `fsync`
(all written, not yet under its name) or `replace` (just renamed); `nan` puts one into a weight
at the given update; `encoder` kills the encoder of a video at the given frame. `count` prints how often the first
three happen. Mutations are defects that the fault harness must find.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path

import torch

import drq_sn.training.augmentations  # noqa: F401 -- imports kornia
from drq_sn.agents import DrQV2
from drq_sn.cli import train
from drq_sn.cli.running import checkpointing
from drq_sn.envs.gl import find_backend
from drq_sn.runs import files
from drq_sn.runs.checkpoints import CheckpointStore
from drq_sn.runs.video import VideoRecorder
from tests.builders import kill_children


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_written(due):
    """Die in the middle of writing a file."""
    original = files.write_atomically

    def write(path, data):
        if due():
            path.with_name(f".{path.name}.{os.getpid()}").write_bytes(bytes(data)[: len(data) // 2])
            die()
        original(path, data)

    for module in list(sys.modules.values()):
        if vars(module).get("write_atomically") is original:
            module.write_atomically = write


def before_fsync(due):
    """Die before a file is on the disk."""
    fsync = os.fsync
    os.fsync = lambda file: die() if due() else fsync(file)


def after_replace(due):
    """Die right after a file got its name."""
    replace = Path.replace

    def renamed(self, target):
        result = replace(self, target)
        if due():
            die()
        return result

    Path.replace = renamed


def poisoned_weight(due):
    """Make a weight non-finite."""
    update = DrQV2.update

    def poisoned(self, batch, step):
        if due():
            with torch.no_grad():
                next(self.critic.parameters()).fill_(float("nan"))
        return update(self, batch, step)

    DrQV2.update = poisoned


def killed_encoder(due):
    """Kill the encoder of a video."""
    record = VideoRecorder.__call__

    def recorded(self, env):
        if due():
            kill_children("ffmpeg")
        record(self, env)

    VideoRecorder.__call__ = recorded


STAGES = {
    "write": half_written,
    "fsync": before_fsync,
    "replace": after_replace,
    "nan": poisoned_weight,
    "encoder": killed_encoder,
}
COUNTED = ("write", "fsync", "replace")


def no_resume():
    """No checkpoint is ever found."""
    CheckpointStore.newest = lambda self: None


def other_random_numbers():
    """A checkpoint's random states are not restored."""
    checkpointing.set_random_states = lambda *_: None


MUTATIONS = {"no_resume": no_resume, "other_random_numbers": other_random_numbers}


def count() -> dict[str, int]:
    """Opportunities of the stages in `COUNTED`, as they come."""
    counts = dict.fromkeys(COUNTED, 0)

    def counter(stage):
        def due():
            counts[stage] += 1
            return False

        return due

    for stage in COUNTED:
        STAGES[stage](counter(stage))
    return counts


def arrange(stage: str | None = None, number: int = 0, mutation: str | None = None) -> None:
    """Cause the fault of `stage` at its `number`-th opportunity, and a defect of the code."""
    if mutation is not None:
        MUTATIONS[mutation]()
    if stage is not None:
        opportunities = itertools.count(1)
        STAGES[stage](lambda: next(opportunities) == number)


def run(words: list[str], log: str, spec: dict) -> None:
    """The command `train` in this process, from now on in a session of its own and with its output in `log`.

    Args:
        words: the command line.
        log: file to write.
        spec: arguments of `arrange`; `{"stage": "count"}` for `count`.
    """
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    counts = count() if spec.get("stage") == "count" else arrange(**spec)
    sys.argv = ["train", *words]
    try:
        train.main()
    finally:
        if counts:
            print(f"opportunities: {json.dumps(counts)}", flush=True)


# what a run imports late, so that forked processes need not
find_backend()
torch.ones(2, device="meta").pow(2)
