"""Make a virtual environment that trains: pinned packages, and an OpenGL backend that renders.

usage: setup_venv.py VENV PAIR [--dev] [--ray] [--slurm]

VENV is the directory to make; PAIR is `published` or `current` (see tools/pins); --dev adds what the
tests need, --ray and --slurm what sweeps on such clusters need. Runs on any Python from 3.10 to 3.13
and needs nothing but its standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "tools" / "pins"
SUPPORTED = ((3, 10), (3, 13))
OFFLINE = ".offline.json"  # in an environment that was installed from a bundle: its pins and extras
MESA_PACKAGES = ["libegl1", "libgl1-mesa-dri", "libosmesa6"]
PROBE = """
from drq_sn.validation import InvalidInput
from drq_sn.envs.gl import select_backend
try:
    print(*select_backend())
except InvalidInput as error:
    raise SystemExit(f"error: {error}")
"""


def main() -> None:
    """Build the environment step by step; any failure is one line and exit code 2."""
    venv, pair = Path(sys.argv[1]), sys.argv[2]
    extras = [name for name in ("dev", "ray", "slurm") if f"--{name}" in sys.argv[3:]]
    pins = PINS / f"{pair}.txt"
    if not pins.exists():
        fail(f"PIXELS must be published or current, got {pair}")
    if (venv / OFFLINE).exists():
        keep_offline(venv, pair, extras)
        return
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        fail(f"Python {sys.version.split()[0]}: use 3.10 to 3.13, with make PYTHON=python3.12 ...")
    python = venv / "bin" / "python"
    if not has_pip(python):  # none yet, or one that an earlier failure left half made
        say(f"creating {venv}")
        run(
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            "the venv module is missing: install python3-venv (Debian, Ubuntu)",
        )
    say("installing pinned packages (once; some minutes)")
    lines = pins.read_text().splitlines()
    mujoco, dm_control = (next(x for x in lines if x.startswith(f"{name}==")) for name in ("mujoco", "dm_control"))
    files = [str(PINS / f"{name}.txt") for name in ("requirements", *extras)]
    pip_install(python, mujoco, *(f"--requirement={file}" for file in files))
    pip_install(python, "--no-deps", dm_control)
    pip_install(python, "--no-deps", "-e", str(ROOT))
    ensure_rendering(python)


def keep_offline(venv: Path, pair: str, extras: list[str]) -> None:
    """Fail if an environment from a bundle lacks what is asked for; never use the network."""
    record = json.loads((venv / OFFLINE).read_text())
    remedy = f"bring a new bundle and run make install-offline, or remove {venv} to install from the network"
    if record["pins"] != pins_digest(pair):
        fail(f"tools/pins changed since {venv} was installed from a bundle; {remedy}")
    for extra in set(extras) - set(record["extras"]):
        fail(f"{venv} was installed from a bundle without what this needs (make bundle {extra.upper()}=1); {remedy}")


def pins_digest(pair: str) -> str:
    """SHA-256 of all that decides which packages are installed for `pair`."""
    files = [PINS / f"{name}.txt" for name in ("requirements", "build", "dev", "slurm", "ray", pair)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def has_pip(python: Path) -> bool:
    """Whether `python` is there and can install packages."""
    return (
        python.exists() and subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode == 0
    )


def pip_install(python: Path, *arguments: str) -> None:
    """Pip install into the environment, quietly."""
    run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments],
        "pip could not install; its message is above",
    )


def ensure_rendering(python: Path) -> None:
    """See that some OpenGL backend draws; install Mesa where that is possible."""
    first = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True)
    if first.returncode == 0:
        say(f"rendering works: {first.stdout.strip()}")
    elif shutil.which("apt-get") and os.geteuid() == 0:
        say(f"no OpenGL backend renders; installing {' '.join(MESA_PACKAGES)}")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-y", "-qq", *MESA_PACKAGES], env=quiet, stdout=subprocess.DEVNULL)
        run([str(python), "-c", PROBE], "still nothing renders; the reason is above")
    else:
        fail(first.stderr.strip().removeprefix("error: "))


def run(command: list[str], reason: str) -> None:
    """Run `command`, or end with `reason`."""
    if subprocess.run(command).returncode:
        fail(reason)


def say(text: str) -> None:
    """Tell the user what happens."""
    print(f"setup: {text}", flush=True)


def fail(text: str) -> NoReturn:
    """End with one line and exit code 2."""
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
