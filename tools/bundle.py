"""Write a directory that installs the project on a machine without a network: wheels, source, manifest.

usage: bundle.py [--bundle FOLDER] [--pixels published] [--python 3.12] [--slim 1] [--dev 1] [--ray 1]

--bundle is the directory to write, --pixels the pair of dm_control and MuJoCo (see tools/pins), --python the other
machine's Python (by default the one that runs this). --slim leaves out PyTorch and NumPy, for a Python that has them;
--dev adds what the tests need, --ray what sweeps on Ray need (Slurm's are always included). The other machine is x86-64
Linux. Needs the standard library, git, and pip, whose index decides which torch it is.
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

from install_offline import MANIFEST, SOURCE, is_new_or, sha256
from setup_venv import PINS, ROOT, SUPPORTED, fail, pins_digest, run

PYTHONS = [f"3.{minor}" for minor in range(SUPPORTED[0][1], SUPPORTED[1][1] + 1)]
SOURCE_ONLY = ("antlr4-python3-runtime", "rliable")  # pure Python, published without wheels
PLATFORMS = [*(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)), "manylinux2014_x86_64"]
PIN = re.compile(r'([\w.-]+)==(\S+?)(?:; python_version (<|>=) "3\.(\d+)")?')
HOST_PACKAGES = {"torch": "2.6", "numpy": "1.26.4"}  # minimum versions that a slim bundle expects
VALID = {  # variable of make -> option, valid values
    "PIXELS": ("pixels", ["published", "current"]),
    "TARGET_PYTHON": ("python", PYTHONS),
    **{name.upper(): (name, ["1", "0"]) for name in ("slim", "dev", "ray")},
}


def main() -> None:
    """Write the bundle beside its final place, then move it there; any failure is one line and exit code 2."""
    options = parse(sys.argv[1:])
    folder = Path(options.bundle).absolute()
    if not folder.parent.is_dir():
        fail(f"BUNDLE must be in an existing directory, got {folder}")
    if not is_new_or(folder, MANIFEST):
        fail(f"BUNDLE must be a new directory or an earlier bundle, got {folder}")
    if not (ROOT / ".git").exists():
        fail(f"a bundle must be made from a git checkout, got {ROOT}")
    if git("status", "--porcelain"):
        say("warning: there are uncommitted changes; the bundle contains the last commit")
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        partial = Path(temporary) / "bundle"
        write(partial, options, git("rev-parse", "HEAD"))
        if folder.exists():
            folder.replace(Path(temporary) / "old")
        partial.replace(folder)
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    say(f"{folder}: {megabytes:.0f} MB for Python {options.python}; its README.txt has the next steps")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options from the command line, with the `extras` that they ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", default="bundle")
    parser.add_argument("--pixels", default="published")
    parser.add_argument("--python", default=f"3.{sys.version_info[1]}")
    for switch in ("slim", "dev", "ray"):
        parser.add_argument(f"--{switch}", default="0")
    options = parser.parse_args(arguments)
    for variable, (name, valid) in VALID.items():
        if getattr(options, name) not in valid:
            fail(f"{variable} must be one of {', '.join(valid)}, got {getattr(options, name)}")
    if options.slim == "0" and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        fail(
            "a full bundle must be made on x86-64 Linux, where pip knows what torch needs there; SLIM=1 works anywhere"
        )
    options.extras = ["slurm", *(name for name in ("dev", "ray") if getattr(options, name) == "1")]
    return options


def git(*arguments: str) -> str:
    """Output of a git command in the checkout."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()


def write(folder: Path, options: argparse.Namespace, commit: str) -> None:
    """Write the bundle to the new directory `folder`."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    archive = ["git", "-C", str(ROOT), "archive", f"--prefix={SOURCE}/", "-o", str(folder / f"{SOURCE}.tar.gz"), commit]
    run(archive, "git could not archive the checkout; its message is above")
    say("downloading wheels")
    download(wheels, select_pins(options), options.python)
    (folder / "README.txt").write_text(readme(options, commit))
    manifest = {
        "commit": commit,
        "python": options.python,
        "pixels": options.pixels,
        "pins": pins_digest(options.pixels),
        "extras": options.extras,
        "host_packages": HOST_PACKAGES if options.slim == "1" else {},
        "files": {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def select_pins(options: argparse.Namespace) -> dict[str, str]:
    """Version of every package of the bundle."""
    names = ("requirements", "build", options.pixels, *options.extras)
    lines = [line for name in names for line in (PINS / f"{name}.txt").read_text().splitlines()]
    pins = dict(pin for line in lines if line and line[0] != "#" for pin in read_pin(line, options.python))
    omitted = HOST_PACKAGES if options.slim == "1" else {}
    return {name: version for name, version in pins.items() if name not in omitted}


def read_pin(line: str, python: str) -> list[tuple[str, str]]:
    """Name and version; nothing if the line's condition excludes `python`."""
    match = PIN.fullmatch(line)
    if match is None:
        fail(f'a line of tools/pins must be NAME==VERSION[; python_version < "3.X" (or >=)], got {line}')
    name, version, comparison, minor = match.groups()
    applies = not comparison or (int(python.split(".")[1]) >= int(minor)) == (comparison == ">=")
    return [(name, version)] if applies else []


def download(wheels: Path, pins: dict[str, str], python: str) -> None:
    """Download a wheel of every pinned package, and with torch the packages that its build needs (CUDA's, if any)."""
    target = ["--python-version", python, "--implementation", "cp"]
    target += [word for name in PLATFORMS for word in ("--platform", name)]
    command = ["download", "--only-binary=:all:", *target, "--dest", str(wheels)]
    names = [name for name in pins if name not in (*SOURCE_ONLY, "torch")]
    pip(*command, "--no-deps", *(f"{name}=={pins[name]}" for name in names))
    pip("wheel", "--no-deps", "--wheel-dir", str(wheels), *(f"{name}=={pins[name]}" for name in SOURCE_ONLY))
    if "torch" in pins:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.write("\n".join(f"{name}=={version}" for name, version in pins.items()))
            constraints.flush()
            pip(*command, "--constraint", constraints.name, f"torch=={pins['torch']}")


def pip(*arguments: str) -> None:
    """Run this Python's pip."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    run(command, f"`pip {arguments[0]}` failed; its message is above (Python: {sys.executable})")


def readme(options: argparse.Namespace, commit: str) -> str:
    """What to do on the other machine."""
    pixels = "" if options.pixels == "published" else f" PIXELS={options.pixels}"
    needs = f", with {' and '.join(HOST_PACKAGES)}" if options.slim == "1" else ""
    return f"""drq_sn, commit {commit}
For x86-64 Linux (glibc 2.28 or newer) and Python {options.python}{needs}. Here:

    tar -xzf {SOURCE}.tar.gz && cd {SOURCE}
    make install-offline BUNDLE=.. PYTHON=python{options.python}{pixels}
    make train TASK=cheetah_run{pixels}

docs/offline.md in the source has more.
"""


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"bundle: {text}", flush=True)


if __name__ == "__main__":
    main()
