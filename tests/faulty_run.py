"""Training with a fault built in, in a process forked from one that has imported everything.

Stages: the process kills itself at the given call of `write` (half of the data written), `fsync` (all written, not yet
under its name) or `replace` (just renamed); `count` prints how often these happen. Mutations are defects that the fault
harness must find.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import sys
from pathlib import Path

import torch

import drq_sn.training.augmentations  # noqa: F401 -- imports kornia
from drq_sn.cli import train
from drq_sn.cli.running import checkpointing
from drq_sn.envs.gl import find_backend
from drq_sn.runs import files
from drq_sn.runs.checkpoints import CheckpointStore


def die():
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
        return die() if due() else result

    Path.replace = renamed


def no_resume():
    """No checkpoint is ever found."""
    CheckpointStore.newest = lambda self: None


def other_random_numbers():
    """A checkpoint's random states are not restored."""
    checkpointing.set_random_states = lambda *_: None


STAGES = {"write": half_written, "fsync": before_fsync, "replace": after_replace}
MUTATIONS = {"no_resume": no_resume, "other_random_numbers": other_random_numbers}


def run(words, log, stage=None, number=0, mutation=None):
    """The command `train` in this process, from now on in a session of its own and with its output in `log`.

    Args:
        words: the command line.
        log: file to write.
        stage: where to die; `count` for nowhere.
        number: at which call.
        mutation: a defect of the code.
    """
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    calls = {name: itertools.count(1) for name in STAGES}
    if mutation is not None:
        MUTATIONS[mutation]()
    for name in STAGES if stage == "count" else filter(None, [stage]):
        STAGES[name](functools.partial(lambda name: next(calls[name]) == number, name))
    sys.argv = ["train", *words]
    try:
        train.main()
    finally:
        if stage == "count":
            counts = {name: next(numbers) - 1 for name, numbers in calls.items()}
            print(f"opportunities: {json.dumps(counts)}", flush=True)


# what a run imports late, so that forked processes need not
find_backend()
torch.ones(2, device="meta").pow(2)
