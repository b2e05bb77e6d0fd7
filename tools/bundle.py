"""Write a folder that installs the project on a machine without a network: wheels, source, manifest.

usage: bundle.py FOLDER PAIR [--python 3.12] [--slim 1] [--dev 1] [--ray 1]

FOLDER is the folder to write; PAIR is `published` or `current` (see tools/pins); --python names the
other machine's Python (default: the one that runs this). --slim leaves out what a machine with torch
has, and what training never imports; --dev adds what the tests need, --ray what sweeps on Ray need (Slurm's are
always there). The other machine is x86-64 Linux.
Needs the standard library, git, and a Python with pip, whose configured index is where torch comes from.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import bundle_manifest
import slim_bundle
from setup_venv import PINS, ROOT, SUPPORTED, fail, pins_digest, run

PYTHONS = [f"{SUPPORTED[0][0]}.{minor}" for minor in range(SUPPORTED[0][1], SUPPORTED[1][1] + 1)]
SOURCE_ONLY = ("antlr4-python3-runtime", "rliable")  # pure Python, published without wheels
GLIBC = (2, 28)  # the oldest that the pinned wheels run on
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC[1], 4, -1)] + [
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
]
PIN = re.compile(r'([\w.-]+)==(\S+?)(?:; python_version (<|>=) "3\.(\d+)")?')


class Settings(NamedTuple):
    """What was asked for."""

    folder: Path
    pair: str
    python: str
    slim: bool
    dev: bool
    ray: bool

    @property
    def launchers(self) -> list[str]:
        """The clusters on which sweeps can be started."""
        return ["slurm", *(["ray"] if self.ray else [])]


class OneLineParser(argparse.ArgumentParser):
    """Refuses in one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        fail(message)


def main(words: list[str]) -> None:
    """Make the bundle beside its place, then move it there; any failure is one line and exit code 2."""
    settings = parse(words)
    folder = settings.folder
    check_place(folder)
    facts = describe_checkout() | describe_target(settings)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        fill(partial, settings, facts)
        move_into_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    say(f"{folder}: {megabytes:.1f} MB for Python {settings.python}; its README.txt says what to do there")


def parse(words: list[str]) -> Settings:
    """Settings from the command line."""
    parser = OneLineParser(add_help=False)
    parser.add_argument("folder")
    parser.add_argument("pair")
    for option in ("--python", "--slim", "--dev", "--ray"):
        parser.add_argument(option, default="")
    given = parser.parse_args(words)
    python = given.python or f"{sys.version_info[0]}.{sys.version_info[1]}"
    one_of("PIXELS", given.pair, ["published", "current"])
    one_of("TARGET_PYTHON", python, PYTHONS)
    given_switches = ("SLIM", given.slim), ("DEV", given.dev), ("RAY", given.ray)
    switches = [one_of(name, value, ["1", "0", ""]) == "1" for name, value in given_switches]
    if not given.folder:
        fail("BUNDLE is empty; name the directory to write")
    return Settings(Path(given.folder).absolute(), given.pair, python, *switches)


def one_of(name: str, value: str, accepted: list[str]) -> str:
    """`value` if it is accepted, else the end."""
    if value not in accepted:
        fail(f"{name} must be one of {', '.join(word for word in accepted if word)}, got {value}")
    return value


def check_place(folder: Path) -> None:
    """See that writing `folder` takes nothing away but an earlier bundle."""
    if not folder.parent.is_dir():
        fail(f"BUNDLE={folder}: there is no folder {folder.parent}")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        bundle_manifest.read(folder)
    except ValueError:
        fail(f"BUNDLE={folder}: something is there that is not a bundle; choose another folder")


def describe_checkout() -> dict[str, Any]:
    """Version and commit of the checkout; ends where there is none."""
    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != ROOT.resolve():
        fail("a bundle is made from a git checkout of the project, and this is none")
    dirty = bool(git("status", "--porcelain"))
    if dirty:
        say("warning: there are uncommitted changes; the bundle holds the last commit")
    (version,) = re.findall(r'^__version__ = "(.*)"', git("show", "HEAD:drq_sn/__init__.py"), re.M)
    commit = git("rev-parse", "HEAD")
    return {"project": "drq_sn", "version": version, "source": f"drq_sn-{version}", "commit": commit, "dirty": dirty}


def git(*arguments: str) -> str:
    """Output of a git command in the checkout; empty if it fails."""
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()
    except OSError:
        fail("git is missing: install it")


def describe_target(settings: Settings) -> dict[str, Any]:
    """What the manifest says of the machine that the bundle is for."""
    if not settings.slim and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        fail("a full bundle is made on x86-64 Linux, where pip knows what its torch needs; SLIM=1 can be made anywhere")
    return {
        "python": settings.python,
        "platform": {"system": "linux", "machine": "x86_64", "glibc": list(GLIBC)},
        "pixels": settings.pair,
        "pins": pins_digest(settings.pair),
        "slim": settings.slim,
        "dev": settings.dev,
        "launchers": settings.launchers,
        **(slim_bundle.facts() if settings.slim else {"expected": {}, "left_out": {}, "cut": {}}),
    }


def fill(partial: Path, settings: Settings, facts: dict[str, Any]) -> None:
    """Write everything that belongs into a bundle to the new folder `partial`."""
    wheels = partial / "wheels"
    wheels.mkdir(parents=True)
    archive = partial / f"{facts['source']}.tar.gz"
    run(
        ["git", "-C", str(ROOT), "archive", f"--prefix={facts['source']}/", "-o", str(archive), facts["commit"]],
        "git could not archive the checkout; its message is above",
    )
    say("fetching wheels")
    fetch(wheels, pinned(settings), settings)
    with tempfile.TemporaryDirectory() as folder:
        run(["tar", "-xzf", str(archive), "-C", folder], "tar could not unpack the archive; its message is above")
        pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(Path(folder) / facts["source"]))
    (partial / "README.txt").write_text(readme(settings, facts))
    bundle_manifest.write(partial, facts)


def pinned(settings: Settings) -> dict[str, str]:
    """Version of every package that belongs into the bundle."""
    names = ["requirements", "build", settings.pair, *settings.launchers, *(["dev"] if settings.dev else [])]
    found = {}
    for name in names:
        lines = (PINS / f"{name}.txt").read_text().splitlines()
        found |= dict(
            pin for line in lines if line and not line.startswith("#") for pin in read_pin(line, settings.python)
        )
    return {name: version for name, version in found.items() if not (settings.slim and slim_bundle.is_left(name))}


def read_pin(line: str, python: str) -> list[tuple[str, str]]:
    """Name and version, if the line's condition holds for `python`; nothing otherwise."""
    match = PIN.fullmatch(line)
    if match is None:
        fail(f'tools/pins: {line!r} is not understood; write name==version, and "; python_version < 3.x" or ">= 3.x"')
    name, version, comparison, minor = match.groups()
    if comparison and (int(python.split(".")[1]) >= int(minor)) != (comparison == ">="):
        return []
    return [(name, version)]


def fetch(wheels: Path, pins: dict[str, str], settings: Settings) -> None:
    """Fetch a wheel of every pinned package, and with torch what its build asks for (the CUDA libraries, if any)."""
    target = ["--python-version", settings.python, "--implementation", "cp"]
    target += [word for name in PLATFORMS for word in ("--platform", name)]
    download = ["download", "--only-binary=:all:", *target, "--dest", str(wheels)]
    plain = [f"{name}=={pins[name]}" for name in pins if name not in (*SOURCE_ONLY, "torch")]
    pip(*download, "--no-deps", *plain)
    pip(
        "wheel",
        "--no-deps",
        "--wheel-dir",
        str(wheels),
        *(f"{name}=={pins[name]}" for name in SOURCE_ONLY if name in pins),
    )
    if "torch" in pins:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.write("\n".join(f"{name}=={version}" for name, version in pins.items()))
            constraints.flush()
            pip(*download, "--constraint", constraints.name, f"torch=={pins['torch']}")
    if settings.slim:
        for wheel in sorted(wheels.iterdir()):
            if prefixes := slim_bundle.CUT.get(wheel.name.split("-")[0]):
                slim_bundle.cut_wheel(wheel, prefixes)


def pip(*arguments: str) -> None:
    """Run this Python's pip, quietly."""
    run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        f"`pip {arguments[0]}` failed; its message is above (this Python: {sys.executable})",
    )


def readme(settings: Settings, facts: dict[str, Any]) -> str:
    """What to type on the other machine."""
    source = facts["source"]
    text = f"""drq_sn {facts["version"]}, commit {facts["commit"]}
For x86-64 Linux (glibc {GLIBC[0]}.{GLIBC[1]} or newer), Python {settings.python}, pixels: {settings.pair}.

Type here:
    tar -xzf {source}.tar.gz && cd {source}
    make install-offline BUNDLE=.. PYTHON=python{settings.python}{" PIXELS=current" if settings.pair == "current" else ""}

The source can be unpacked anywhere else too; then BUNDLE= is the path of this folder.
docs/offline.md in it says more.
"""
    return text + slim_notes() if settings.slim else text


def slim_notes() -> str:
    """What a slim bundle goes without."""
    expected = "\n".join(f"    {name}{versions}" for name, (_, versions) in slim_bundle.EXPECTED.items())
    without = "\n".join(f"    {thing}" for thing in slim_bundle.WITHOUT)
    return f"""
This is a slim bundle. It expects that Python to have
{expected}
and goes without
{without}

Where no virtual environment can be made, type here instead:
    python3 -m pip install --no-index --no-deps --target SITE wheels/*.whl
    export PYTHONPATH=SITE        (a full path)
    python3 -m drq_sn.cli.train task=cheetah_run
"""


def move_into_place(partial: Path, folder: Path) -> None:
    """Replace `folder` by `partial`; the earlier bundle goes last."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def say(text: str) -> None:
    """Tell the user what happens."""
    print(f"bundle: {text}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
