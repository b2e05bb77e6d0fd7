"""Interrupted runs."""

from __future__ import annotations

import functools
import shutil

import pytest

from drq_sn.cli.running.run import run
from drq_sn.cli.running.signals import Stopped
from tests.builders import TINY, run_config
from tests.cli.running.interruptions import interrupt_at, terminate


@pytest.fixture
def interrupt(monkeypatch):
    """`interrupt(action, steps)` calls `action()` once within each of these environment steps."""

    return functools.partial(interrupt_at, monkeypatch)


@pytest.fixture(scope="session")
def _finished_run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    run(run_config(run_dir, *TINY))
    return run_dir


@pytest.fixture(scope="session")
def _stopped_run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.MonkeyPatch.context() as monkeypatch:
        interrupt_at(monkeypatch, terminate, 75)
        with pytest.raises(Stopped):
            run(run_config(run_dir, *TINY))
    return run_dir


@pytest.fixture
def finished_run(_finished_run, tmp_path):
    """A copy of a finished run of `configure()`, in its run directory."""
    return shutil.copytree(_finished_run, tmp_path / "run")


@pytest.fixture
def stopped_run(_stopped_run, tmp_path):
    """A copy of a run of `configure()` stopped by SIGTERM at step 76, in its run directory."""
    return shutil.copytree(_stopped_run, tmp_path / "run")
