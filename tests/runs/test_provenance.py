"""Devices, and the commit of a checkout, whoever owns it."""

from __future__ import annotations

import subprocess

import pytest
import torch

from drq_sn.runs import provenance
from drq_sn.validation import InvalidInput


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of one commit that contains the module."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "drq_sn" / "runs").mkdir(parents=True)
    (tmp_path / "a.py").write_text("")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"], ["tag", "v1", "-m", "a release"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "drq_sn" / "runs" / "provenance.py"))
    return tmp_path


@pytest.mark.parametrize("another_owner", ["0", "1"])
def test_the_commit_is_recorded_whoever_owns_the_checkout(checkout, monkeypatch, capsys, another_owner):
    commit = subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", another_owner)  # git's own switch for such tests
    assert provenance.git_commit() == commit
    (checkout / "a.py").write_text("a change")
    assert provenance.git_commit() == f"{commit}-dirty"
    assert capsys.readouterr().err == ""


def test_a_commit_that_git_cannot_tell_is_a_warning(checkout, monkeypatch, capsys):
    (checkout / ".git" / "HEAD").write_text("damaged")
    assert provenance.git_commit() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the commit is not recorded: fatal: ")
    (checkout / "git").write_text("#!/bin/sh\nexit 1\n")
    (checkout / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(checkout))
    assert provenance.git_commit() is None
    assert "returned non-zero exit status 1" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.git_commit() is None
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["..", ".venv"])
def test_an_installed_package_has_no_commit_wherever_it_is(checkout, monkeypatch, capsys, place):
    module = checkout / place / "site-packages" / "drq_sn" / "runs" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(module.resolve()))
    assert provenance.git_commit() is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("name", "current"), [("auto", None), ("cuda", None), ("cuda:1", 1)])
def test_cuda_devices_with_and_without_an_index(monkeypatch, name, current):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(device.index))
    assert provenance.select_device(name).type == "cuda"
    assert chosen == ([] if current is None else [current])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(InvalidInput, match="device must be auto or cpu, as PyTorch finds no CUDA device, got 'cuda'"):
        provenance.select_device("cuda")
