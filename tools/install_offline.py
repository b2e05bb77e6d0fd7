"""Make a virtual environment from a bundle (tools/bundle.py), without a network.

usage: install_offline.py BUNDLE VENV PAIR

BUNDLE is the folder; VENV the environment to make anew, for the tree that this file is in; PAIR is
`published` or `current` and must be the bundle's. Run it with the Python that the bundle is for: for a
slim bundle, the one that has torch. Needs nothing but the standard library, `venv` included.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import site
import subprocess
import sys
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import bundle_manifest
from setup_venv import OFFLINE, PROBE, ROOT, fail, pins_digest, run, say

FIND = """
import importlib, json, sys
from importlib import metadata
found = {}
for name, module in json.loads(sys.argv[1]).items():
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError:
        found[name] = ["", "missing"]
    except Exception as error:
        found[name] = ["", "does not import: " + (str(error).splitlines() or [""])[0]]
    else:
        try:
            found[name] = [metadata.version(name), ""]
        except metadata.PackageNotFoundError:
            found[name] = [str(getattr(loaded, "__version__", "0")), ""]
print(json.dumps(found))
"""
PREREQUISITES = ("tools/setup_venv.py", "setup.cfg", "tools/pins/*.txt")  # of the Makefile's .installed


def main(words: list[str]) -> None:
    """Check everything, then install; any failure is one line and exit code 2, and leaves no environment."""
    if len(words) != 3:
        fail("usage: install_offline.py BUNDLE VENV PAIR")
    bundle, venv, pair = Path(words[0]).absolute(), Path(words[1]).absolute(), words[2]
    manifest = checked_manifest(bundle, pair)
    check_python(manifest)
    check_venv(venv)
    check_expected(manifest["expected"])
    done = False
    try:
        install(bundle, venv, manifest)
        done = True
    finally:
        if not done:
            shutil.rmtree(venv, ignore_errors=True)
    stamp(venv, manifest)
    report_rendering(venv)
    tests = ", `make test` the tests" if manifest["dev"] else ""
    say(f"installed in {venv}; `make doctor` tells what this machine has, `make train TASK=cheetah_run` trains{tests}")


def checked_manifest(bundle: Path, pair: str) -> dict[str, Any]:
    """The manifest of a bundle that is whole and fits this tree."""
    try:
        manifest = bundle_manifest.read(bundle)
        if pair != manifest["pixels"]:
            fail(f"PIXELS={pair}: this bundle holds {manifest['pixels']}")
        if manifest["pins"] != pins_digest(pair):
            fail(f"the pins of this tree are not the bundle's: install from its own {manifest['source']}.tar.gz")
        say(f"checking {len(manifest['files'])} files")
        bundle_manifest.verify(bundle, manifest)
    except ValueError as error:
        fail(str(error))
    return manifest


def check_python(manifest: dict[str, Any]) -> None:
    """See that this machine and this Python are those that the bundle is for."""
    here, there = f"{sys.version_info[0]}.{sys.version_info[1]}", manifest["python"]
    if here != there:
        fail(f"this bundle is for Python {there} and this is {here}: choose another with PYTHON=python{there}")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        fail(f"this bundle is for x86-64 Linux and this is {platform.machine()} {platform.system()}")
    library, version = platform.libc_ver()
    needed = ".".join(map(str, manifest["platform"]["glibc"]))
    if library == "glibc" and not satisfies(version, f">={needed}"):
        fail(f"this bundle needs glibc {needed} or newer and this machine has {version}")
    if importlib.util.find_spec("ensurepip") is None:
        fail("this Python can't make virtual environments: install python3-venv, or see README.txt (--target)")


def check_venv(venv: Path) -> None:
    """See that making `venv` anew takes nothing away but an earlier environment."""
    if venv.exists() and not (venv / "pyvenv.cfg").exists() and not (venv.is_dir() and not any(venv.iterdir())):
        fail(f"VENV={venv}: something is there that is no virtual environment; choose another folder")


def check_expected(expected: dict[str, dict[str, str]]) -> None:
    """See that this Python imports what a slim bundle leaves to it, in versions that do."""
    modules = {name: rule["module"] for name, rule in expected.items()}
    result = subprocess.run([sys.executable, "-c", FIND, json.dumps(modules)], capture_output=True, text=True)
    if result.returncode:
        fail(f"looking for what the bundle expects failed: {(result.stderr.strip().splitlines() or ['no output'])[-1]}")
    found = json.loads(result.stdout.strip().splitlines()[-1])
    troubles = []
    for name, (version, problem) in found.items():
        versions = expected[name]["versions"]
        if problem or not satisfies(version, versions):
            troubles.append(f"{name}{versions} ({problem or version})")
    if troubles:
        fail(
            f"this slim bundle expects of {sys.executable} what it has not: {', '.join(troubles)}; PYTHON= chooses another"
        )


def satisfies(version: str, clauses: str) -> bool:
    """Whether `version` fulfils comma-separated clauses of `>=` and `<`; only its leading numbers count."""
    for clause in filter(None, clauses.split(",")):
        at_least = clause.startswith(">=")
        pairs = zip_longest(_numbers(version), _numbers(clause.lstrip("><=")), fillvalue=0)
        mine, bound = zip(*pairs, strict=True)
        if (mine >= bound) != at_least:
            return False
    return True


def _numbers(version: str) -> list[int]:
    leading = re.match(r"\d+(\.\d+)*", version)
    return [int(part) for part in leading.group().split(".")] if leading else [0]


def install(bundle: Path, venv: Path, manifest: dict[str, Any]) -> None:
    """Make `venv` and install the bundle's wheels and this tree."""
    say(f"creating {venv}")
    options = ["--system-site-packages"] if manifest["slim"] else []
    command = [sys.executable, "-m", "venv", "--clear", *options, str(venv)]
    run(command, "the venv could not be made; the reason is above")
    if manifest["slim"]:
        see_packages_of_this_python(venv)
    say("installing wheels (some minutes)")
    wheels = [entry for entry in manifest["files"] if entry["path"].startswith("wheels/")]
    pip_install(venv, *(str(bundle / entry["path"]) for entry in wheels if entry["name"] != manifest["project"]))
    pip_install(venv, "--no-build-isolation", "--editable", str(ROOT))


def see_packages_of_this_python(venv: Path) -> None:
    """A venv made from a venv sees the packages of the Python below both: name those of the upper one too."""
    if sys.prefix == sys.base_prefix:
        return
    (target,) = venv.glob("lib/python*/site-packages")
    (target / "packages_of_the_python_below.pth").write_text("\n".join(site.getsitepackages()) + "\n")


def pip_install(venv: Path, *arguments: str) -> None:
    """Pip install, with neither an index nor anybody's settings for pip."""
    command = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "--isolated",
        "--quiet",
        "--disable-pip-version-check",
        "install",
    ]
    if subprocess.run(
        [*command, "--no-index", "--no-deps", *arguments], env={**os.environ, "PIP_CONFIG_FILE": os.devnull}
    ).returncode:
        fail("pip could not install; its message is above")


def stamp(venv: Path, manifest: dict[str, Any]) -> None:
    """Tell make and setup_venv.py that all is installed, whatever the clocks of two machines say."""
    record = {name: manifest[name] for name in ("pins", "dev", "launchers", "commit")}
    (venv / OFFLINE).write_text(json.dumps(record) + "\n")
    files = [path for pattern in PREREQUISITES for path in ROOT.glob(pattern)]
    newest = max([time.time_ns(), *(path.stat().st_mtime_ns for path in files)])
    extras = [*(["dev"] if manifest["dev"] else []), *manifest["launchers"]]
    for name in [".installed", *(f".installed-{extra}" for extra in extras)]:
        (venv / name).touch()
        os.utime(venv / name, ns=(newest, newest))


def report_rendering(venv: Path) -> None:
    """Say whether some OpenGL backend draws here; a login node may lack what the compute nodes have."""
    result = subprocess.run([str(venv / "bin" / "python"), "-c", PROBE], capture_output=True, text=True)
    if result.returncode == 0:
        say(f"rendering works: {result.stdout.strip()}")
    else:
        reason = (result.stderr.strip().splitlines() or ["no output"])[-1].removeprefix("error: ")
        say(f"warning: nothing renders on this machine, and training from pixels needs it: {reason}")


if __name__ == "__main__":
    main(sys.argv[1:])
