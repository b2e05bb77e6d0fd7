"""A machine without a network installs from a bundle and trains; downloads everything."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.builders import ROOT

TINY = (
    "num_train_frames=200 num_random_steps=60 batch_size=4 head.width=64 env.image_size=24 "
    "num_eval_episodes=1 num_eval_processes=1 device=cpu"
)


def without_network():
    """The words before a command that run it without any network device, where that is permitted."""
    words = ["unshare", "--map-root-user", "--net"]
    try:
        devices = subprocess.run([*words, "cat", "/proc/net/dev"], capture_output=True, text=True)
    except OSError:
        return []
    return words if devices.returncode == 0 and re.findall(r"^\s*(\S+):", devices.stdout, re.M) == ["lo"] else []


def offline(*command, cwd, **variables):
    """Run `command` without a network; return its output."""
    proxies = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all")}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "MAKE"))}
    environment = {**inherited, **proxies, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, **variables}
    words = [*without_network(), *command]
    result = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{words}:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout + result.stderr


def make_bundle(folder, *words):
    if not (ROOT / ".git").exists():
        pytest.skip("a bundle is made from a git checkout")
    subprocess.run(["make", "bundle", f"BUNDLE={folder}", f"PYTHON={sys.executable}", *words], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A full bundle with what the tests need."""
    return make_bundle(tmp_path_factory.mktemp("full") / "bundle", "DEV=1")


def install_and_train(bundle, python):
    """Install with `python` and train on real pixels; return the source tree."""
    subprocess.run(["tar", "-xzf", "drq_sn.tar.gz"], cwd=bundle, check=True)
    tree = bundle / "drq_sn"
    assert "GL backend: " in offline("make", "install-offline", "BUNDLE=..", f"PYTHON={python}", cwd=tree)
    offline("make", "train", "TASK=cartpole_balance", f"ARGS={TINY}", "PYTHON=false", cwd=tree)
    run = tree / "runs" / "cartpole_balance" / "drqv2_modern4_spectral" / "seed_1"
    assert (run / "weights.pt").exists()
    assert (run / "video" / "0.mp4").exists()
    return tree


@pytest.mark.slow  # downloads several hundred megabytes
def test_a_full_bundle_trains_and_tests_without_a_network(full):
    tree = install_and_train(full, sys.executable)
    assert "passed" in offline("make", "test", "PYTHON=false", cwd=tree, PYTEST_ADDOPTS="tests/agents/test_losses.py")


@pytest.mark.slow  # as above
def test_a_slim_bundle_trains_where_torch_is_without_a_network(full, tmp_path):
    """The machine has torch, NumPy and what they need, from the full bundle's wheels, and nothing else."""
    machine = tmp_path / "machine"
    subprocess.run([sys.executable, "-m", "venv", str(machine)], check=True)
    pip = [str(machine / "bin" / "pip"), "install", "--quiet", "--no-index", "--find-links", str(full / "wheels")]
    offline(*pip, "torch", "numpy", cwd=tmp_path)
    slim = make_bundle(tmp_path / "slim", "SLIM=1")
    assert sum(path.stat().st_size for path in slim.rglob("*") if path.is_file()) <= 300e6
    install_and_train(slim, machine / "bin" / "python")
