"""Ways to interrupt a run at a step (see the fixture `interrupt`), and to resume it."""

from __future__ import annotations

import os
import signal

from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped


class Killed(Exception):
    """Takes the place of SIGKILL: nothing in the package handles it."""


def kill():
    raise Killed


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def run_until_finished(cfg_of):
    """Run again and again; return how often the run was interrupted."""
    for count in range(20):
        try:
            run(cfg_of())
            return count
        except (Killed, Stopped):
            continue
    raise AssertionError("the run never finished")
