"""Interrupted runs."""

from __future__ import annotations

import shutil

import pytest

from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped
from drq_sn.training.loop import Loop
from tests.builders import TINY, compose_config
from tests.cli.running.interruptions import terminate


@pytest.fixture
def interrupt(monkeypatch):
    """`interrupt(action, steps)` calls `action()` once within each of these environment steps."""

    def arrange(action, *steps):
        original, remaining = Loop._act, list(steps)

        def act(self, agent, time_step, step, shape):
            if remaining and step >= remaining[0]:
                remaining.pop(0)
                action()
            return original(self, agent, time_step, step, shape)

        monkeypatch.setattr(Loop, "_act", act)

    return arrange


def tiny_config(run_dir, *overrides):
    cfg = compose_config(*TINY, *overrides)
    cfg.run_dir = str(run_dir)
    return cfg


@pytest.fixture(scope="session")
def _finished_run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    run(tiny_config(run_dir))
    return run_dir


@pytest.fixture(scope="session")
def _stopped_run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.MonkeyPatch.context() as monkeypatch:
        original = Loop._act

        def act(self, agent, time_step, step, shape):
            if step == 75:
                terminate()
            return original(self, agent, time_step, step, shape)

        monkeypatch.setattr(Loop, "_act", act)
        with pytest.raises(Stopped):
            run(tiny_config(run_dir))
    return run_dir


@pytest.fixture
def finished_run(_finished_run, tmp_path):
    """A copy of a finished run of `configure()`, in its run directory."""
    return shutil.copytree(_finished_run, tmp_path / "run")


@pytest.fixture
def stopped_run(_stopped_run, tmp_path):
    """A copy of a run of `configure()` stopped by SIGTERM at step 76, in its run directory."""
    return shutil.copytree(_stopped_run, tmp_path / "run")
