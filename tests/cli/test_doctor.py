"""The report on a machine: facts and problems."""

from __future__ import annotations

import pytest

from drq_sn.cli import doctor
from drq_sn.envs import gl
from drq_sn.validation import InvalidInput


def test_it_tells_versions_device_and_rendering():
    facts, _ = doctor.report()
    names = {line.split(":")[0] for line in facts}
    assert {"python", "torch", "mujoco", "dm_control", "device", "GL backend", "GL renderer", "rendering"} <= names


def test_software_rendering_a_wrong_pair_and_little_memory_are_named(monkeypatch):
    versions = doctor.provenance.versions() | {"dm_control": "1.0.50", "mujoco": "4.0.0"}
    monkeypatch.setattr(doctor.provenance, "versions", lambda: versions)
    monkeypatch.setattr(doctor, "available_memory", lambda *_: 10**9)
    monkeypatch.setattr(doctor.gl, "select_backend", lambda: gl.Backend("egl", "llvmpipe"))
    _, problems = doctor.report()
    for words in ("was not tried together", "other pixels", "a run with default options needs", "drawn in software"):
        assert any(words in problem for problem in problems), words


def test_missing_packages_are_problems(monkeypatch):
    versions = doctor.provenance.versions() | {"dm_control": "not installed", "mujoco": "not installed"}
    monkeypatch.setattr(doctor.provenance, "versions", lambda: versions)

    def fail(task):
        raise InvalidInput("dm_control is not installed")

    monkeypatch.setattr(doctor.gl, "select_backend", lambda: gl.Backend("egl", "llvmpipe"))
    monkeypatch.setattr(doctor, "make_env", fail)
    facts, problems = doctor.report()
    assert "GL backend: none" in facts
    assert "dm_control is not installed" in problems


def test_no_backend_is_a_problem_and_not_a_crash(monkeypatch):
    def fail():
        raise InvalidInput("no OpenGL backend renders")

    monkeypatch.setattr(doctor.gl, "select_backend", fail)
    facts, problems = doctor.report()
    assert "GL backend: none" in facts
    assert "no OpenGL backend renders" in problems


def test_a_machine_that_fits_the_default_run_but_no_full_replay_is_fine(monkeypatch):
    monkeypatch.setattr(doctor, "available_memory", lambda *_: 10 * 10**9)
    _, problems = doctor.report()
    assert not [problem for problem in problems if "needs" in problem]


def test_a_busy_machine_is_a_problem_but_not_refused(monkeypatch, capsys):
    def hang():
        raise TimeoutError("OpenGL with egl did not answer")

    monkeypatch.setattr(doctor.gl, "select_backend", hang)
    monkeypatch.setattr(doctor.sys, "argv", ["drq-sn doctor"])
    with pytest.raises(SystemExit) as end:
        doctor.main()
    assert end.value.code == 0
    assert "problem: OpenGL with egl did not answer" in capsys.readouterr().out
