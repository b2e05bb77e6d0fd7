"""A machine without a network installs from a bundle and trains: all of it, really; downloads everything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORDS = (
    "num_train_frames=200 num_random_steps=60 batch_size=4 head.width=64 env.image_size=24 "
    "num_eval_episodes=1 num_eval_processes=1 device=cpu"
)
EXPECTED_THERE = (
    "torch",
    "numpy",
    "scipy",
    "tensorboard",
    "matplotlib",
    "protobuf",
    "absl-py",
    "requests",
    "tqdm",
    "pyparsing",
)


def _no_network():
    """A command's first words that run it without any network device, where that is permitted."""
    words = ["unshare", "--map-root-user", "--net"]
    try:
        devices = subprocess.run([*words, "cat", "/proc/net/dev"], capture_output=True, text=True)
    except OSError:
        return []
    return words if devices.returncode == 0 and re.findall(r"^\s*(\S+):", devices.stdout, re.M) == ["lo"] else []


def _offline(*command, cwd, **variables):
    """Run `command` without a network; returns what it said."""
    dead = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "MAKE"))}
    environment = {**kept, **dead, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, **variables}
    prefix = _no_network()
    result = subprocess.run([*prefix, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    how = "without a network" if prefix else "with dead proxies alone, no network namespace being permitted"
    assert result.returncode == 0, f"{command} {how}:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A full bundle with what the tests need."""
    return _make_bundle(tmp_path_factory.mktemp("full") / "bundle", "DEV=1")


def _make_bundle(folder, *words):
    if not (ROOT / ".git").exists():
        pytest.skip("a bundle is made from a git checkout")
    subprocess.run(["make", "bundle", f"BUNDLE={folder}", f"PYTHON={sys.executable}", *words], cwd=ROOT, check=True)
    return folder


def _unpack_and_install(bundle, python):
    (archive,) = bundle.glob("drq_sn-*.tar.gz")
    subprocess.run(["tar", "-xzf", str(archive)], cwd=bundle, check=True)
    tree = bundle / archive.name.removesuffix(".tar.gz")
    said = _offline("make", "install-offline", "BUNDLE=..", f"PYTHON={python}", cwd=tree)
    assert "rendering works" in said
    return tree


def _train(tree):
    said = _offline("make", "train", "TASK=cartpole_balance", f"ARGS={WORDS}", "PYTHON=false", cwd=tree)
    run = tree / "runs" / "cartpole_balance" / "drqv2_modern4_spectral" / "seed_1"
    assert (run / "weights.pt").exists()
    return said, list(run.glob("video/*.mp4"))


@pytest.mark.slow  # downloads everything, several hundred megabytes
def test_a_full_bundle_trains_and_tests_without_a_network(full):
    tree = _unpack_and_install(full, sys.executable)
    _, films = _train(tree)
    assert [film.name for film in films] == ["0.mp4"]
    assert "passed" in _offline("make", "test", "PYTHON=false", cwd=tree, PYTEST_ADDOPTS="tests/agents/test_losses.py")


@pytest.mark.slow  # as above
def test_a_slim_bundle_trains_where_torch_is_without_a_network(full, tmp_path):
    """The machine has torch and its like, from the full bundle's wheels, and lacks the rest."""
    machine = tmp_path / "machine"
    subprocess.run([sys.executable, "-m", "venv", str(machine)], check=True)
    pip = [str(machine / "bin" / "pip"), "install", "--quiet", "--no-index", "--find-links", str(full / "wheels")]
    _offline(*pip, *EXPECTED_THERE, cwd=tmp_path)
    slim = _make_bundle(tmp_path / "slim", "SLIM=1")
    assert sum(path.stat().st_size for path in slim.rglob("*") if path.is_file()) <= 35e6
    tree = _unpack_and_install(slim, machine / "bin" / "python")
    said, films = _train(tree)
    assert films or "no video" in said  # some machines have an ffmpeg
