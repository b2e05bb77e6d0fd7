"""The wheel carries its configuration and trains outside the checkout."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "task=synthetic_point",
    "num_train_frames=200",
    "num_random_steps=60",
    "batch_size=4",
    "env.image_size=24",
    "device=cpu",
]


def test_every_package_is_named_in_setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    named = set(parser["options"]["packages"].split()) - {"drq_sn.cfg"}
    assert named == {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "drq_sn").rglob("__init__.py")}


@pytest.mark.slow  # builds in an environment of its own, which downloads setuptools
def test_the_wheel_trains_outside_the_checkout(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path / "wheel"), str(ROOT)], check=True)
    (wheel,) = (tmp_path / "wheel").iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = subprocess.run(
        [sys.executable, "-c", "import drq_sn; print(drq_sn.__file__)"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert str(tmp_path) in where.stdout
    subprocess.run([sys.executable, "-m", "drq_sn.cli.train", *WORDS], cwd=elsewhere, env=environment, check=True)
    assert [p.name for p in elsewhere.iterdir()] == ["runs"]
    assert (elsewhere / "runs" / "synthetic_point" / "drqv2_modern4_spectral" / "seed_1" / "weights.pt").exists()
