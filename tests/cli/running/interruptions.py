"""Ways to interrupt a run at a step (see the fixture `interrupt`), and to resume it."""

from __future__ import annotations

import os
import signal

from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped
from drq_sn.training.loop import Loop


class Killed(Exception):
    """Takes the place of SIGKILL: nothing in the package handles it."""


def kill():
    raise Killed


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt_at(monkeypatch, action, *steps):
    """Call `action()` once within each of these environment steps."""
    original, remaining = Loop._act, list(steps)

    def act(self, agent, time_step, step, shape):
        if remaining and step >= remaining[0]:
            remaining.pop(0)
            action()
        return original(self, agent, time_step, step, shape)

    monkeypatch.setattr(Loop, "_act", act)


def run_until_finished(cfg_of):
    """Run again and again; return how often the run was interrupted."""
    for count in range(20):
        try:
            run(cfg_of())
            return count
        except (Killed, Stopped):
            continue
    raise AssertionError("the run never finished")
