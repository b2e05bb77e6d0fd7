"""The Dockerfile agrees with the other ways to install; no test builds it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import setup_venv

from tests.builders import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_it_installs_what_make_setup_would():
    (packages,) = re.findall(r"apt-get install -y --no-install-recommends (.*?) *\\", DOCKERFILE)
    assert {*setup_venv.MESA_PACKAGES, "git"} <= set(packages.split())
    (python,) = re.findall(r"^FROM python:3\.(\d+)-", DOCKERFILE, re.M)
    assert setup_venv.SUPPORTED[0] <= (3, int(python)) <= setup_venv.SUPPORTED[1]
    (tool,) = re.findall(r'python /opt/drq_sn/(\S+) \S+ "\$PIXELS"', DOCKERFILE)
    assert (ROOT / tool).samefile(setup_venv.__file__)
    (pair,) = re.findall(r"^ARG PIXELS=(\S+)", DOCKERFILE, re.M)
    assert (setup_venv.PINS / f"{pair}.txt").exists()


def test_the_context_leaves_out_what_git_ignores():
    names = [
        {line.removeprefix("**/") for line in (ROOT / file).read_text().splitlines() if line[0] != "#"}
        for file in (".gitignore", ".dockerignore")
    ]
    assert names[0] == names[1]


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_has_no_complaints():
    result = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")
