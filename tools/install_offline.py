"""Make a virtual environment from a bundle (tools/bundle.py), without a network.

usage: install_offline.py [--bundle FOLDER] [--venv .venv] [--pixels published]

--venv is the environment to make anew, for the source tree that this file is in; --pixels must be the bundle's. Run it
with the Python that the bundle is for: for a slim bundle, one that has PyTorch. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import site
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from setup_venv import OFFLINE, ROOT, fail, pins_digest, run, say

MANIFEST, SOURCE = "MANIFEST.json", "drq_sn"  # file names in a bundle; the source is an archive
NOTHING_RENDERS = 2  # doctor's exit code


def main() -> None:
    """Check everything, then install; any failure is one line and exit code 2, and leaves no environment."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bundle", default="bundle")
    parser.add_argument("--venv", default=".venv")
    parser.add_argument("--pixels", default="published")
    options = parser.parse_args()
    bundle, venv = Path(options.bundle).absolute(), Path(options.venv).absolute()
    manifest = read_manifest(bundle)
    check_fit(manifest, options.pixels)
    check_host_packages(manifest["host_packages"])
    check_files(bundle, manifest["files"])
    if not is_new_or(venv, "pyvenv.cfg"):
        fail(f"VENV must be a new directory or a virtual environment, got {venv}")
    try:
        install(bundle, venv, manifest)
    except BaseException:
        shutil.rmtree(venv, ignore_errors=True)
        raise
    mark_installed(venv, manifest)
    say(f"installed in {venv}")


def is_new_or(folder: Path, marker: str) -> bool:
    """Whether `folder` does not exist, is empty, or has the file `marker`."""
    return not folder.exists() or (folder / marker).exists() or (folder.is_dir() and not any(folder.iterdir()))


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle."""
    try:
        return dict(json.loads((bundle / MANIFEST).read_text()))
    except (OSError, ValueError):
        fail(f"BUNDLE must be a directory with a readable {MANIFEST}, got {bundle}")


def check_fit(manifest: dict[str, Any], pixels: str) -> None:
    """Fail unless the bundle is for this Python and this source tree."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if python != manifest["python"]:
        fail(f"PYTHON must be python{manifest['python']} for this bundle, got Python {python}")
    if pixels != manifest["pixels"]:
        fail(f"PIXELS must be {manifest['pixels']} for this bundle, got {pixels}")
    if manifest["pins"] != pins_digest(pixels):
        fail(f"tools/pins differ from the bundle's; install from its own {SOURCE}.tar.gz")


def check_host_packages(minimum_versions: dict[str, str]) -> None:
    """Fail unless this Python has the packages that a slim bundle leaves out."""
    missing = []
    for name, minimum in minimum_versions.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        if not version or leading_numbers(version) < leading_numbers(minimum):
            missing.append(f"{name}>={minimum} ({version or 'missing'})")
    if missing:
        fail(f"this slim bundle needs {', '.join(missing)} in {sys.executable}; choose another Python with PYTHON=")


def leading_numbers(version: str) -> list[int]:
    """`2.6.0a0+git` -> [2, 6, 0]."""
    match = re.match(r"\d+(\.\d+)*", version)
    return [int(part) for part in match.group().split(".")] if match else []


def check_files(bundle: Path, digests: dict[str, str]) -> None:
    """Fail unless every file of the bundle is what it was when it was made."""
    say(f"checking {len(digests)} files")
    damaged = [name for name, digest in digests.items() if sha256(bundle / name) != digest]
    if damaged:
        fail(f"{bundle} is damaged, copy it again; missing or changed: {', '.join(damaged)}")


def sha256(path: Path) -> str:
    """SHA-256 of a file; empty if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def install(bundle: Path, venv: Path, manifest: dict[str, Any]) -> None:
    """Make `venv`, install the bundle's wheels and this source tree, and see that they run."""
    say(f"creating {venv}")
    host = bool(manifest["host_packages"])
    options = ["--system-site-packages"] if host else []
    run([sys.executable, "-m", "venv", "--clear", *options, str(venv)], "could not make the venv; the reason is above")
    if host and sys.prefix != sys.base_prefix:  # an environment made from another sees only the packages below both
        (packages,) = venv.glob("lib/python*/site-packages")
        (packages / "host_packages.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    say("installing wheels (some minutes)")
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "--isolated", "--quiet", "--disable-pip-version-check", "install"]
    wheels = [str(bundle / name) for name in manifest["files"] if name.endswith(".whl")]
    for arguments in (wheels, ["--no-build-isolation", "--editable", str(ROOT)]):
        run([*pip, "--no-index", "--no-deps", *arguments], "pip could not install; its message is above")
    if subprocess.run([python, "-m", "drq_sn.cli.doctor"]).returncode not in (0, NOTHING_RENDERS):
        fail("the installed packages do not work together; the reason is above")


def mark_installed(venv: Path, manifest: dict[str, Any]) -> None:
    """Tell make and setup_venv.py what is installed."""
    (venv / OFFLINE).write_text(json.dumps({name: manifest[name] for name in ("pins", "extras", "commit")}) + "\n")
    for name in (".installed", *(f".installed-{extra}" for extra in manifest["extras"])):
        (venv / name).touch()


if __name__ == "__main__":
    main()
