"""Bundles: their pins and manifest, what making and installing them refuses, and that make leaves the result alone."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from pathlib import Path

import bundle
import install_offline
import pytest
import setup_venv
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.builders import ROOT

TOOLS = ROOT / "tools"
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def refused(tool_path, *words, cwd=ROOT):
    """The one line with which a tool refuses `words`."""
    result = subprocess.run([sys.executable, str(tool_path), *words], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


# Pins


@pytest.mark.parametrize("python", ["3.10", "3.13"])
def test_pins_are_read_as_packaging_reads_them(python):
    for path in (TOOLS / "pins").glob("*.txt"):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                pin = Requirement(line)
                applies = pin.marker is None or pin.marker.evaluate({"python_version": python})
                assert bundle.read_pin(line, python) == ([(pin.name, str(pin.specifier)[2:])] if applies else [])


def test_a_malformed_pin_is_refused(capsys):
    with pytest.raises(SystemExit):
        bundle.read_pin('six==1.17.0; sys_platform == "linux"', "3.12")
    assert "tools/pins must be NAME==VERSION" in capsys.readouterr().err


def test_a_slim_bundle_omits_torch_and_numpy_and_asks_for_what_setup_cfg_needs():
    full, slim = (bundle.select_pins(bundle.parse([f"--slim={value}", f"--python={HERE}"])) for value in "01")
    assert set(full) - set(slim) == set(bundle.HOST_PACKAGES) == {"torch", "numpy"}
    assert {"dm_control", "mujoco", "hydra-core", "submitit", "setuptools", "pandas"} <= set(slim)
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    requirements = [Requirement(line) for line in parser["options"]["install_requires"].split("\n") if line]
    needed = {requirement.name: requirement.specifier for requirement in requirements}
    assert all(needed[name].contains(minimum) for name, minimum in bundle.HOST_PACKAGES.items())


# Making


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--python=3.9"], "TARGET_PYTHON must be one of 3.10, 3.11, 3.12, 3.13, got 3.9"),
        (["--slim=yes"], "SLIM must be one of 1, 0, got yes"),
        (["--pixels=newest"], "PIXELS must be one of published, current, got newest"),
        (["--bundle=none/b"], "BUNDLE must be in an existing directory"),
    ],
)
def test_making_refuses_wrong_options_in_one_line(tmp_path, words, message):
    assert message in refused(TOOLS / "bundle.py", *words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_making_overwrites_only_bundles(tmp_path):
    (tmp_path / "chapter.txt").write_text("years of work")
    assert "must be a new directory or an earlier bundle" in refused(TOOLS / "bundle.py", f"--bundle={tmp_path}")
    assert (tmp_path / "chapter.txt").read_text() == "years of work"


def copy_tree(target):
    """The files that make and the tools need, in `target`."""
    for path in [ROOT / "Makefile", ROOT / "setup.cfg", *TOOLS.glob("*.py"), *TOOLS.glob("pins/*.txt")]:
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


def test_making_outside_a_checkout_is_refused(tmp_path):
    copy_tree(tmp_path / "tree")
    words = [f"--bundle={tmp_path / 'b'}", "--slim=1"]
    assert "must be made from a git checkout" in refused(tmp_path / "tree" / "tools" / "bundle.py", *words)


def test_a_new_bundle_replaces_an_earlier_one_and_its_files_are_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "pip", lambda *words: Path(words[-1]) if words[0] == "download" else None)
    monkeypatch.setattr(sys, "argv", ["bundle.py", f"--bundle={tmp_path / 'b'}", "--slim=1"])
    bundle.main()
    (tmp_path / "b" / "old").touch()
    bundle.main()
    files = sorted(path.name for path in (tmp_path / "b").rglob("*") if path.is_file())
    assert files == ["MANIFEST.json", "README.txt", "drq_sn.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    manifest = install_offline.read_manifest(tmp_path / "b")
    install_offline.check_fit(manifest, "published")
    install_offline.check_files(tmp_path / "b", manifest["files"])


# Installing


@pytest.fixture
def empty_bundle(tmp_path):
    """`empty_bundle(python="3.9")` -> the path of a bundle without wheels for this Python, except for what is given."""

    def make(**facts):
        folder = tmp_path / "b"
        folder.mkdir()
        digest = setup_venv.pins_digest("published")
        fitting = {
            "python": HERE,
            "pixels": "published",
            "pins": digest,
            "extras": [],
            "host_packages": {},
            "files": {},
        }
        (folder / "MANIFEST.json").write_text(json.dumps(fitting | {"commit": ""} | facts))
        return str(folder)

    return make


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"python": "3.9"}, "PYTHON must be python3.9 for this bundle"),
        ({"pixels": "current"}, "PIXELS must be current for this bundle, got published"),
        ({"pins": "0"}, "tools/pins differ from the bundle's"),
        ({"host_packages": {"numpy": "99", "warp": "0"}}, "needs numpy>=99 ("),
        ({"host_packages": {"warp": "0"}}, "warp>=0 (missing)"),
        ({"files": {"wheels/six.whl": "0"}}, "missing or changed: wheels/six.whl"),
        ({"files": {"MANIFEST.json": "0"}}, "missing or changed: MANIFEST.json"),
    ],
)
def test_installing_refuses_a_bundle_that_does_not_fit(tmp_path, empty_bundle, facts, message):
    words = [f"--bundle={empty_bundle(**facts)}", f"--venv={tmp_path / 'venv'}"]
    assert message in refused(TOOLS / "install_offline.py", *words)
    assert not (tmp_path / "venv").exists()


def test_installing_refuses_what_is_no_bundle_and_overwrites_only_environments(tmp_path, empty_bundle):
    install = TOOLS / "install_offline.py"
    assert "with a readable MANIFEST.json" in refused(install, f"--bundle={tmp_path}")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    words = [f"--bundle={empty_bundle()}", f"--venv={tmp_path / 'home'}"]
    assert "VENV must be a new directory or a virtual environment" in refused(install, *words)
    assert (tmp_path / "home" / "letter.txt").exists()


@pytest.mark.parametrize("version", ["2.6", "2.6.0", "2.5.9", "2.13.0+cpu", "3"])
def test_versions_are_compared_as_packaging_compares_them(version):
    newer = install_offline.leading_numbers(version) >= install_offline.leading_numbers("2.6")
    assert newer == SpecifierSet(">=2.6").contains(version)


def test_suffixes_of_a_version_are_ignored():
    assert install_offline.leading_numbers("2.6.0a0+df5bbc09d1.nv24.12") == [2, 6, 0]


def test_a_failed_installation_leaves_no_environment(empty_bundle, tmp_path, monkeypatch):
    venv = tmp_path / "venv"

    def run(command, reason):
        venv.mkdir(exist_ok=True)
        if "pip" in command:
            install_offline.fail("no space")

    monkeypatch.setattr(install_offline, "run", run)
    monkeypatch.setattr(sys, "argv", ["install_offline.py", f"--bundle={empty_bundle()}", f"--venv={venv}"])
    with pytest.raises(SystemExit):
        install_offline.main()
    assert not venv.exists()


# Afterwards


def test_make_leaves_an_offline_environment_alone(tmp_path):
    copy_tree(tmp_path)
    (tmp_path / ".venv").mkdir()

    def sets_up(target):
        command = ["make", "--dry-run", target]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return "setup_venv" in result.stdout

    assert sets_up("train")
    install_offline.mark_installed(tmp_path / ".venv", {"pins": "", "extras": ["slurm"], "commit": ""})
    assert not sets_up("train")
    assert sets_up("test")  # no DEV=1
    install_offline.mark_installed(tmp_path / ".venv", {"pins": "", "extras": ["dev"], "commit": ""})
    assert not sets_up("test")


def test_setting_up_again_leaves_an_offline_environment_alone_or_says_what_it_lacks(tmp_path):
    record, setup = tmp_path / ".offline.json", [TOOLS / "setup_venv.py", str(tmp_path), "published"]
    record.write_text(json.dumps({"pins": setup_venv.pins_digest("published"), "extras": ["slurm"]}))
    assert subprocess.run([sys.executable, *setup, "--slurm"], capture_output=True).returncode == 0
    assert "(make bundle DEV=1)" in refused(*setup, "--dev")
    assert "(make bundle RAY=1)" in refused(*setup, "--ray")
    record.write_text(json.dumps({"pins": "others", "extras": ["dev"]}))
    assert "tools/pins changed" in refused(*setup)
    assert [path.name for path in tmp_path.iterdir()] == [record.name]
