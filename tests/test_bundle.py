"""Bundles: what they hold, what they and their installation refuse, and that make then leaves the environment alone."""

from __future__ import annotations

import base64
import configparser
import hashlib
import importlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from drq_sn.runs.video import VideoRecorder

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
FACTS = {"version": "0.1", "source": "drq_sn-0.1"}


@pytest.fixture
def tool(monkeypatch):
    """`tool("bundle")` -> the module tools/bundle.py."""
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module
    for path in TOOLS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def refused(*words, cwd=ROOT):
    """The one line with which a tool refuses `words`."""
    result = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr


# The manifest


@pytest.fixture
def folder(tool, tmp_path):
    """A small bundle."""
    (tmp_path / "b" / "wheels").mkdir(parents=True)
    (tmp_path / "b" / "wheels" / "six-1.17.0-py2.py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "b" / "drq_sn-0.1.tar.gz").write_bytes(b"source")
    tool("bundle_manifest").write(tmp_path / "b", FACTS)
    return tmp_path / "b"


def test_the_manifest_names_every_file(folder):
    source, wheel = json.loads((folder / "MANIFEST.json").read_text())["files"]
    assert wheel == {
        "path": "wheels/six-1.17.0-py2.py3-none-any.whl",
        "name": "six",
        "version": "1.17.0",
        "size": 5,
        "sha256": hashlib.sha256(b"wheel").hexdigest(),
    }
    assert (source["path"], source["name"], source["version"]) == ("drq_sn-0.1.tar.gz", "drq_sn", "0.1")


def test_a_whole_bundle_passes_also_with_its_source_unpacked_inside(tool, folder):
    (folder / "drq_sn-0.1" / "tools").mkdir(parents=True)
    (folder / "drq_sn-0.1" / "tools" / "x.py").touch()
    manifest = tool("bundle_manifest")
    manifest.verify(folder, manifest.read(folder))


def _change(folder):
    (folder / "wheels" / "six-1.17.0-py2.py3-none-any.whl").write_bytes(b"Wheel")  # as long as before


def _remove(folder):
    (folder / "drq_sn-0.1.tar.gz").unlink()


def _add(folder):
    (folder / "wheels" / "seven.whl").touch()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_change, "changed: wheels/six"),
        (_remove, "missing: drq_sn-0.1.tar.gz"),
        (_add, "not in the manifest: wheels/seven.whl"),
    ],
)
def test_a_changed_a_missing_and_an_extra_file_are_named(tool, folder, harm, words):
    harm(folder)
    manifest = tool("bundle_manifest")
    with pytest.raises(ValueError, match=words):
        manifest.verify(folder, manifest.read(folder))


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": 2}'])
def test_a_folder_without_a_manifest_is_no_bundle(tool, tmp_path, text):
    if text is not None:
        (tmp_path / "MANIFEST.json").write_text(text)
    with pytest.raises(ValueError, match="is not a bundle"):
        tool("bundle_manifest").read(tmp_path)


# Cutting wheels

CONTENT = {"big/__init__.py": b"x = 1\n", "big/assets/a, b.bin": b"\0" * 999, "big/assets_too.py": b"y = 2\n"}


@pytest.fixture
def wheel(tmp_path):
    """A wheel with a folder that nobody needs, one of whose files has a comma in its name."""
    info = "big-1.0.dist-info"
    files = CONTENT | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: big\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f'"{name}",{_record_hash(data)},{len(data)}' for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = tmp_path / "big-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _record_hash(data):
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def test_a_cut_wheel_has_a_record_of_what_it_holds(tool, wheel):
    tool("slim_bundle").cut_wheel(wheel, ("big/assets/",))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = archive.read("big-1.0.dist-info/RECORD").decode().splitlines()
        assert {line.split(",")[0] for line in record} == set(names)
        for line in record:
            name, digest, _ = line.split(",")
            assert digest in ("", _record_hash(archive.read(name)))
    assert "big/assets_too.py" in names
    assert not any(name.startswith("big/assets/") for name in names)
    assert [path.name for path in wheel.parent.iterdir()] == [wheel.name]


def test_pip_installs_a_cut_wheel(tool, wheel, tmp_path):
    tool("slim_bundle").cut_wheel(wheel, ("big/assets/",))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(wheel)], check=True)
    installed = {path.name for path in (tmp_path / "site" / "big").iterdir() if path.is_file()}
    assert installed == {"__init__.py", "assets_too.py"}


# Pins and versions


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_pins_are_read_as_packaging_reads_them(tool, python):
    bundle = tool("bundle")
    for path in (TOOLS / "pins").glob("*.txt"):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                pin = Requirement(line)
                applies = pin.marker is None or pin.marker.evaluate({"python_version": python})
                assert bundle.read_pin(line, python) == ([(pin.name, str(pin.specifier)[2:])] if applies else [])


def test_a_pin_that_is_not_understood_is_refused(tool, capsys):
    with pytest.raises(SystemExit):
        tool("bundle").read_pin('six==1.17.0; sys_platform == "linux"', "3.12")
    assert "is not understood" in capsys.readouterr().err


@pytest.mark.parametrize(
    "version", ["2.6", "2.6.0", "2.5.9", "2.13.0+cpu", "1.26.4", "1.26", "2.4.6", "2.5", "3", "0.7"]
)
@pytest.mark.parametrize("clauses", ["", ">=2.6", ">=1.26,<2.5", "<2.5", ">=0.7.0"])
def test_versions_are_compared_as_packaging_compares_them(tool, version, clauses):
    assert tool("install_offline").satisfies(version, clauses) == SpecifierSet(clauses).contains(version)


def test_a_build_between_two_releases_counts_as_the_later_one(tool):
    assert tool("install_offline").satisfies("2.6.0a0+df5bbc09d1.nv24.12", ">=2.6")


def test_what_a_slim_bundle_leaves_is_pinned_and_expected_as_setup_cfg_asks(tool):
    slim = tool("slim_bundle")
    lines = [
        line for name in ("requirements", "dev") for line in (TOOLS / "pins" / f"{name}.txt").read_text().splitlines()
    ]
    pins = {line.split("==")[0] for line in lines}
    assert {*slim.EXPECTED, *slim.COME_WITH_EXPECTED, *slim.LEFT_OUT} <= pins
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg")
    wanted = [Requirement(line) for line in cfg["options"]["install_requires"].split("\n") if line]
    asked = {canonicalize_name(item.name): item.specifier for item in wanted}
    for name, (_, versions) in slim.EXPECTED.items():
        for clause in map(str, asked.get(name, SpecifierSet())):
            newer_works = (name, clause) == ("numpy", "<2.5")  # and warns
            assert newer_works or clause in versions.split(","), name


def test_training_imports_nothing_that_a_slim_bundle_leaves_out(tool):
    left = [name.replace("-", "_") for name in tool("slim_bundle").LEFT_OUT]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({left}))"
    code = f"{blocked}; import drq_sn.cli.train, drq_sn.cli.evaluate, drq_sn.cli.doctor, drq_sn.cli.profile, drq_sn.cli.bench"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_without_an_ffmpeg_there_is_a_warning_and_no_video(tmp_path, monkeypatch):
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setattr("imageio_ffmpeg._utils._get_ffmpeg_exe", lambda: None)

    class Env:
        def render(self, height, width):
            return np.zeros((height, width, 3), np.uint8)

    with VideoRecorder(tmp_path / "a.mp4", 30.0) as record:
        with pytest.warns(UserWarning, match="no video"):
            record(Env())
        record(Env())
    assert list(tmp_path.iterdir()) == []


# Refusals


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["b", "published", "--python=3.9"], "TARGET_PYTHON must be one of 3.10, 3.11, 3.12, 3.13, got 3.9"),
        (["b", "published", "--slim=yes"], "SLIM must be one of 1, 0, got yes"),
        (["b", "published", "--dev=2"], "DEV must be one of 1, 0, got 2"),
        (["b", "newest"], "PIXELS must be one of published, current, got newest"),
        (["", "published"], "BUNDLE is empty"),
        (["none/b", "published"], "there is no folder"),
        (["b", "published", "--fast"], "unrecognized arguments"),
    ],
)
def test_bundling_refuses_bad_words_in_one_line(tmp_path, words, says):
    assert says in refused(str(TOOLS / "bundle.py"), *words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bundling_leaves_alone_what_is_no_bundle(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    assert "not a bundle" in refused(str(TOOLS / "bundle.py"), str(tmp_path / "thesis"), "published")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_bundling_outside_a_checkout_is_refused(tmp_path):
    for path in [*TOOLS.glob("*.py"), *TOOLS.glob("pins/*.txt")]:
        copy = tmp_path / "tree" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    assert "git checkout" in refused(
        str(tmp_path / "tree" / "tools" / "bundle.py"), str(tmp_path / "b"), "published", "--slim=1"
    )


@pytest.fixture
def empty_bundle(tool, tmp_path):
    """`empty_bundle(python="3.9")` -> a bundle of nothing for this Python, but for what is said."""

    def make(**facts):
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        pins = tool("setup_venv").pins_digest("published")
        target = {"python": here, "pixels": "published", "pins": pins, "platform": {"glibc": [2, 1]}, "slim": True, "dev": False,
                  "launchers": []}  # fmt: skip
        (tmp_path / "b").mkdir()
        tool("bundle_manifest").write(tmp_path / "b", FACTS | target | {"expected": {}} | facts)
        return str(tmp_path / "b")

    return make


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"python": "3.9"}, "this bundle is for Python 3.9"),
        ({"pixels": "current"}, "PIXELS=published: this bundle holds current"),
        ({"pins": "0"}, "the pins of this tree are not the bundle's"),
        ({"platform": {"glibc": [9, 1]}}, "needs glibc 9.1 or newer"),
        ({"expected": {"numpy": {"module": "numpy", "versions": "<1"}}}, "numpy<1 ("),
        ({"expected": {"warp": {"module": "warp_drive", "versions": ""}}}, "warp (missing)"),
    ],
)
def test_installing_refuses_a_bundle_that_does_not_fit(tmp_path, empty_bundle, facts, says):
    assert says in _install_refused(empty_bundle(**facts), tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


def test_installing_refuses_a_folder_that_is_no_bundle_and_one_that_was_changed(tmp_path, empty_bundle):
    assert "is not a bundle" in _install_refused(str(tmp_path), tmp_path / "venv")
    bundle = empty_bundle()
    (Path(bundle) / "extra.whl").touch()
    assert "not in the manifest: extra.whl" in _install_refused(bundle, tmp_path / "venv")


def test_installing_leaves_alone_what_is_no_environment(tmp_path, empty_bundle):
    bundle = empty_bundle()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    assert "is no virtual environment" in _install_refused(bundle, tmp_path / "home")
    assert (tmp_path / "home" / "letter.txt").exists()


def test_a_python_that_makes_no_environments_is_told_so(tool, empty_bundle, monkeypatch, capsys):
    install = tool("install_offline")
    manifest = tool("bundle_manifest").read(Path(empty_bundle()))
    install.check_python(manifest)  # as it is, it passes
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        install.check_python(manifest)
    assert "install python3-venv" in capsys.readouterr().err


def test_an_installation_that_fails_leaves_no_environment(tool, empty_bundle, tmp_path, monkeypatch):
    install, venv = tool("install_offline"), tmp_path / "venv"
    monkeypatch.setattr(install, "run", lambda command, reason: venv.mkdir())
    monkeypatch.setattr(install, "pip_install", lambda *words: install.fail("no space"))
    with pytest.raises(SystemExit):
        install.main([empty_bundle(slim=False, project="drq_sn"), str(venv), "published"])
    assert not venv.exists()


def _install_refused(bundle, venv):
    result = subprocess.run(
        [sys.executable, str(TOOLS / "install_offline.py"), bundle, str(venv), "published"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


# Afterwards, make leaves the environment alone


def test_stamps_are_newer_than_pins_from_the_future(tool, tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    for path in [ROOT / "Makefile", ROOT / "setup.cfg", TOOLS / "setup_venv.py", *TOOLS.glob("pins/*.txt")]:
        copy = tree / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        os.utime(copy, (time.time() + 3600, time.time() + 3600))
    (tree / ".venv").mkdir()
    assert "setup_venv" in _what_make_would_do(tree, "train")
    monkeypatch.setattr(tool("install_offline"), "ROOT", tree)
    tool("install_offline").stamp(tree / ".venv", {"pins": "", "dev": False, "launchers": ["slurm"], "commit": ""})
    assert "setup_venv" not in _what_make_would_do(tree, "train")
    assert "setup_venv" in _what_make_would_do(tree, "test")  # no DEV=1
    tool("install_offline").stamp(tree / ".venv", {"pins": "", "dev": True, "launchers": [], "commit": ""})
    assert "setup_venv" not in _what_make_would_do(tree, "test")


def _what_make_would_do(tree, target):
    return subprocess.run(["make", "--dry-run", target], cwd=tree, capture_output=True, text=True, check=True).stdout


def test_setting_up_again_leaves_an_offline_environment_or_says_why_not(tool, tmp_path):
    digest = tool("setup_venv").pins_digest("published")
    record = tmp_path / ".offline.json"
    setup = [str(TOOLS / "setup_venv.py"), str(tmp_path), "published"]
    record.write_text(json.dumps({"pins": digest, "dev": False, "launchers": ["slurm"]}))
    assert subprocess.run([sys.executable, *setup], capture_output=True).returncode == 0
    assert "(make bundle DEV=1)" in refused(*setup, "--dev")
    assert "(make bundle RAY=1)" in refused(*setup, "--ray")
    assert subprocess.run([sys.executable, *setup, "--slurm"], capture_output=True).returncode == 0
    record.write_text(json.dumps({"pins": "others", "dev": True, "launchers": []}))
    assert "tools/pins changed" in refused(*setup)
    assert [path.name for path in tmp_path.iterdir()] == [record.name]
