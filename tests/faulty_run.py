"""Train with a fault built in: `python -m tests.faulty_run {"stage": "fsync", "number": 5} task=... ...`.

Stages: the process kills itself at the given call of `write` (half of the data written), `fsync`
(all written, not yet under its name) or `replace` (just renamed); `nan` puts one into a weight
at the given update; `encoder` kills the film's encoder at the given frame of a film.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(stage: str, number: int) -> None:
    """Let the `number`-th event of kind `stage` bring the fault."""
    count = 0

    def due() -> bool:
        nonlocal count
        count += 1
        return count == number

    if stage == "write":
        from drq_sn.runs import checkpoints, files

        original = files.write_atomically

        def write(path, data):
            if due():
                path.with_name(f".{path.name}.{os.getpid()}").write_bytes(bytes(data)[: len(data) // 2])
                die()
            original(path, data)

        files.write_atomically = checkpoints.write_atomically = write
    elif stage == "fsync":
        fsync = os.fsync
        os.fsync = lambda file: die() if due() else fsync(file)
    elif stage == "replace":
        replace = Path.replace

        def renamed(self, target):
            result = replace(self, target)
            if due():
                die()
            return result

        Path.replace = renamed
    elif stage == "nan":
        from drq_sn.agents import DrQV2

        update = DrQV2.update

        def poisoned(self, batch, step):
            if due():
                with torch.no_grad():
                    next(self.critic.parameters()).fill_(float("nan"))
            return update(self, batch, step)

        DrQV2.update = poisoned
    elif stage == "encoder":
        from drq_sn.runs.video import VideoRecorder

        film = VideoRecorder.__call__

        def filmed(self, env):
            if due():
                subprocess.run(["pkill", "-KILL", "-P", str(os.getpid()), "ffmpeg"], check=True)
            film(self, env)

        VideoRecorder.__call__ = filmed
    else:
        raise SystemExit(f"unknown stage {stage}")


if __name__ == "__main__":
    arrange(**json.loads(sys.argv.pop(1)))
    from drq_sn.cli import train

    train.main()
