"""Write a folder that installs the project on a machine without a network: wheels, source, manifest.

usage: bundle.py [--bundle FOLDER] [--pixels published] [--python 3.12] [--slim 1] [--dev 1] [--ray 1]

--bundle is the folder to write, --pixels the pair of dm_control and MuJoCo (see tools/pins), --python the other
machine's Python (by default the one that runs this). --slim leaves out what a Python with PyTorch has already, and the
statistics of reports; --dev adds what the tests need, --ray what sweeps on Ray need (Slurm's are always included).
The other machine is x86-64 Linux. Needs the standard library, git, and pip, whose index decides which torch it is.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, NoReturn

from install_offline import MANIFEST, SOURCE, sha256
from setup_venv import PINS, ROOT, SUPPORTED, fail, pins_digest, run

PYTHONS = [f"3.{minor}" for minor in range(SUPPORTED[0][1], SUPPORTED[1][1] + 1)]
SOURCE_ONLY = ("antlr4-python3-runtime", "rliable")  # pure Python, published without wheels
PLATFORMS = [*(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)), "manylinux2014_x86_64"]
PIN = re.compile(r'([\w.-]+)==(\S+?)(?:; python_version (<|>=) "3\.(\d+)")?')
# what a slim bundle expects of the Python that installs it, with minimum versions, and what these need
HOST_PACKAGES = {
    **{"torch": "2.6", "numpy": "1.26", "tensorboard": "2.15", "tqdm": "4.66"},
    **dict.fromkeys(("absl-py", "fsspec", "matplotlib", "packaging", "pillow", "protobuf", "pyparsing"), "0"),
    **dict.fromkeys(("requests", "scipy", "typing-extensions"), "0"),
}
NEEDED_BY_HOST_PACKAGES = (
    *("filelock", "jinja2", "markupsafe", "mpmath", "networkx", "sympy"),  # torch
    *("contourpy", "cycler", "fonttools", "kiwisolver", "python-dateutil", "six"),  # matplotlib
    *("grpcio", "markdown", "tensorboard-data-server", "werkzeug"),  # tensorboard
    *("certifi", "charset-normalizer", "idna", "urllib3"),  # requests
)
STATISTICS = ("arch", "formulaic", "interface-meta", "narwhals", "patsy", "rliable", "seaborn", "statsmodels", "wrapt")


class Settings(NamedTuple):
    """The options of a bundle."""

    folder: Path
    pixels: str
    python: str
    slim: bool
    extras: list[str]


class OneLineParser(argparse.ArgumentParser):
    """Reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        fail(message)


def main() -> None:
    """Write the bundle beside its final place, then move it there; any failure is one line and exit code 2."""
    settings = parse(sys.argv[1:])
    check_place(settings.folder)
    commit = describe_checkout()
    with tempfile.TemporaryDirectory(prefix=f".{settings.folder.name}.", dir=settings.folder.parent) as temporary:
        partial = Path(temporary) / "bundle"
        write(partial, settings, commit)
        if settings.folder.exists():
            settings.folder.replace(Path(temporary) / "old")
        partial.replace(settings.folder)
    megabytes = sum(path.stat().st_size for path in settings.folder.rglob("*") if path.is_file()) / 1e6
    say(f"{settings.folder}: {megabytes:.0f} MB for Python {settings.python}; its README.txt has the next steps")


def parse(arguments: list[str]) -> Settings:
    """Settings from the command line."""
    parser = OneLineParser(add_help=False)
    parser.add_argument("--bundle", default="bundle")
    parser.add_argument("--pixels", default="published")
    parser.add_argument("--python", default=f"3.{sys.version_info[1]}")
    for switch in ("slim", "dev", "ray"):
        parser.add_argument(f"--{switch}", default="0")
    options = parser.parse_args(arguments)
    one_of("PIXELS", options.pixels, ["published", "current"])
    one_of("TARGET_PYTHON", options.python, PYTHONS)
    switches = {
        name: one_of(name.upper(), getattr(options, name), ["1", "0"]) == "1" for name in ("slim", "dev", "ray")
    }
    if not switches["slim"] and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        fail(
            "a full bundle must be made on x86-64 Linux, where pip knows what torch needs there; SLIM=1 works anywhere"
        )
    extras = ["slurm", *(name for name in ("dev", "ray") if switches[name])]
    return Settings(Path(options.bundle).absolute(), options.pixels, options.python, switches["slim"], extras)


def one_of(name: str, value: str, valid: list[str]) -> str:
    """Return `value` if it is valid, else fail."""
    if value not in valid:
        fail(f"{name} must be one of {', '.join(valid)}, got {value}")
    return value


def check_place(folder: Path) -> None:
    """Fail unless `folder` can be written without losing anything but an earlier bundle."""
    if not folder.parent.is_dir():
        fail(f"BUNDLE must be in an existing directory, got {folder}")
    if folder.exists() and not (folder / MANIFEST).exists() and not (folder.is_dir() and not any(folder.iterdir())):
        fail(f"BUNDLE must be a new directory or an earlier bundle, got {folder}")


def describe_checkout() -> str:
    """Commit of the checkout; fails where there is none."""
    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != ROOT.resolve():
        fail(f"a bundle must be made from a git checkout, got {ROOT}")
    if git("status", "--porcelain"):
        say("warning: there are uncommitted changes; the bundle contains the last commit")
    return git("rev-parse", "HEAD")


def git(*arguments: str) -> str:
    """Output of a git command in the checkout; empty if it fails."""
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()
    except OSError:
        fail("git not found; install it")


def write(folder: Path, settings: Settings, commit: str) -> None:
    """Write the bundle to the new directory `folder`."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    archive = ["git", "-C", str(ROOT), "archive", f"--prefix={SOURCE}/", "-o", str(folder / f"{SOURCE}.tar.gz"), commit]
    run(archive, "git could not archive the checkout; its message is above")
    say("downloading wheels")
    download(wheels, select_pins(settings), settings.python)
    (folder / "README.txt").write_text(readme(settings, commit))
    manifest = {
        "commit": commit,
        "python": settings.python,
        "pixels": settings.pixels,
        "pins": pins_digest(settings.pixels),
        "extras": settings.extras,
        "host_packages": HOST_PACKAGES if settings.slim else {},
        "files": {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def select_pins(settings: Settings) -> dict[str, str]:
    """Version of every package of the bundle."""
    pins: dict[str, str] = {}
    for name in ("requirements", "build", settings.pixels, *settings.extras):
        lines = (PINS / f"{name}.txt").read_text().splitlines()
        pins |= dict(
            pin for line in lines if line and line[0] != "#" if (pin := read_pin(line, settings.python)) is not None
        )
    omitted = (*HOST_PACKAGES, *NEEDED_BY_HOST_PACKAGES, *STATISTICS) if settings.slim else ()
    return {name: version for name, version in pins.items() if name not in omitted}


def read_pin(line: str, python: str) -> tuple[str, str] | None:
    """Name and version, or None if the line's condition excludes `python`."""
    match = PIN.fullmatch(line)
    if match is None:
        fail(f'a line of tools/pins must be NAME==VERSION[; python_version < "3.X" (or >=)], got {line}')
    name, version, comparison, minor = match.groups()
    if comparison and (int(python.split(".")[1]) >= int(minor)) != (comparison == ">="):
        return None
    return name, version


def download(wheels: Path, pins: dict[str, str], python: str) -> None:
    """Download a wheel of every pinned package, and with torch the packages that its build needs (CUDA's, if any)."""
    target = ["--python-version", python, "--implementation", "cp"]
    target += [word for name in PLATFORMS for word in ("--platform", name)]
    command = ["download", "--only-binary=:all:", *target, "--dest", str(wheels)]
    names = [name for name in pins if name not in (*SOURCE_ONLY, "torch")]
    pip(*command, "--no-deps", *(f"{name}=={pins[name]}" for name in names))
    source_only = [f"{name}=={pins[name]}" for name in SOURCE_ONLY if name in pins]
    pip("wheel", "--no-deps", "--wheel-dir", str(wheels), *source_only)
    if "torch" in pins:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.write("\n".join(f"{name}=={version}" for name, version in pins.items()))
            constraints.flush()
            pip(*command, "--constraint", constraints.name, f"torch=={pins['torch']}")


def pip(*arguments: str) -> None:
    """Run this Python's pip."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    run(command, f"`pip {arguments[0]}` failed; its message is above (Python: {sys.executable})")


def readme(settings: Settings, commit: str) -> str:
    """What to do on the other machine."""
    pixels = "" if settings.pixels == "published" else f" PIXELS={settings.pixels}"
    text = f"""drq_sn, commit {commit}
For x86-64 Linux (glibc 2.28 or newer) and Python {settings.python}. Here:

    tar -xzf {SOURCE}.tar.gz && cd {SOURCE}
    make install-offline BUNDLE=.. PYTHON=python{settings.python}{pixels}
    make train TASK=cheetah_run{pixels}

docs/offline.md in the source has more.
"""
    slim = f"""
This is a slim bundle. That Python must have {", ".join(HOST_PACKAGES)}.
Reports need packages that are not included: copy the runs, and make the report elsewhere.
"""
    return text + slim if settings.slim else text


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"bundle: {text}", flush=True)


if __name__ == "__main__":
    main()
