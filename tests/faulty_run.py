"""Train with a fault built in: `python -m tests.faulty_run {"stage": "fsync", "number": 5} task=... ...`.

Stages: the process kills itself at the given call of `write` (half of the data written), `fsync`
(all written, not yet under its name) or `replace` (just renamed); `nan` puts one into a weight
at the given update; `encoder` kills the film's encoder at the given frame of a film.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path

import torch


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_written(due):
    """Die in the middle of writing a file."""
    from drq_sn.runs import checkpoints, files

    original = files.write_atomically

    def write(path, data):
        if due():
            path.with_name(f".{path.name}.{os.getpid()}").write_bytes(bytes(data)[: len(data) // 2])
            die()
        original(path, data)

    files.write_atomically = checkpoints.write_atomically = write


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
    from drq_sn.agents import DrQV2

    update = DrQV2.update

    def poisoned(self, batch, step):
        if due():
            with torch.no_grad():
                next(self.critic.parameters()).fill_(float("nan"))
        return update(self, batch, step)

    DrQV2.update = poisoned


def killed_encoder(due):
    """Kill the encoder of a video."""
    from drq_sn.runs.video import VideoRecorder
    from tests.builders import kill_children

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


def arrange(stage: str, number: int) -> None:
    """Cause the fault of `stage` at its `number`-th opportunity."""
    opportunities = itertools.count(1)
    STAGES[stage](lambda: next(opportunities) == number)


if __name__ == "__main__":
    arrange(**json.loads(sys.argv.pop(1)))
    from drq_sn.cli import train

    train.main()
