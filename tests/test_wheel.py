"""The wheel declares what it imports, carries its configuration and trains outside the checkout."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions

import bundle
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.builders import ROOT

WORDS = [
    "task=synthetic_point",
    "num_train_frames=200",
    "num_random_steps=60",
    "batch_size=4",
    "env.image_size=24",
    "device=cpu",
]


DISTRIBUTIONS = packages_distributions()
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def requirements(text):
    return [Requirement(line) for line in text.splitlines() if line]


def installed(python, extras=()):
    """Name -> version specifier of what pip installs with the package."""
    texts = [SETUP["options"]["install_requires"], *(SETUP["options.extras_require"][extra] for extra in extras)]
    chosen = [
        requirement
        for requirement in requirements("\n".join(texts))
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python})
    ]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in chosen}


def imports(node):
    """(imported top-level package, whether it is imported with the module) for everything below `node`."""
    for child in ast.iter_child_nodes(node):
        names = [alias.name for alias in child.names] if isinstance(child, ast.Import) else []
        if isinstance(child, ast.ImportFrom) and child.level == 0:
            names = [child.module]
        yield from ((name.partition(".")[0], True) for name in names)
        lazy = isinstance(child, (ast.FunctionDef, ast.Lambda))
        lazy = lazy or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
        yield from ((name, with_module and not lazy) for name, with_module in imports(child))


def undeclared(path, python):
    """What the module at `path` imports and setup.cfg does not declare; only lazy imports may be an extra's."""
    base, everything = installed(python), installed(python, SETUP["options.extras_require"])
    for name, with_module in imports(ast.parse(path.read_text())):
        if name not in sys.stdlib_module_names and name not in ("drq_sn", "__future__"):
            distributions = map(canonicalize_name, DISTRIBUTIONS.get(name, [name]))
            if not set(distributions) & set(base if with_module else everything):
                yield name


def test_every_import_is_declared(tmp_path):
    modules = list((ROOT / "drq_sn").rglob("*.py"))
    assert {path: names for path in modules if (names := set(undeclared(path, "3.12")))} == {}
    code = (
        "import jinja2, yaml, six\nif TYPE_CHECKING:\n    import rliable\ndef f():\n    import numba, matplotlib.lines"
    )
    (tmp_path / "module.py").write_text(code)
    assert list(undeclared(tmp_path / "module.py", "3.12")) == ["jinja2", "six", "numba"]


@pytest.mark.parametrize("python", ["3.10", "3.12", "3.13"])
def test_the_package_installs_what_it_was_tested_with(python):
    needed = installed(python, ["report"])
    options = bundle.parse([f"--python={python}", "--slim=1", "--dev=1"])
    pins = {canonicalize_name(name): version for name, version in bundle.select_pins(options).items()}
    assert {name for name in needed if name not in pins} == {"torch", "numpy"}  # not in a slim bundle
    assert [name for name, range_ in needed.items() if name in pins and not range_.contains(pins[name])] == []
    assert ("dm-control" in needed) == (python != "3.13")  # labmaze has no wheel there
    assert not needed["mujoco"].contains("3.12.0")  # other pixels


def test_without_dm_control_its_other_requirements_are_installed():
    """For Python 3.13, where it is installed by hand and without them."""
    metadata = map(Requirement, distribution("dm_control").requires)
    others = {canonicalize_name(requirement.name) for requirement in metadata if "extra" not in str(requirement.marker)}
    assert others - set(installed("3.13")) == {"labmaze"}


def test_every_package_is_named_in_setup_cfg():
    named = set(SETUP["options"]["packages"].split()) - {"drq_sn.cfg"}
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
