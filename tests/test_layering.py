"""Packages import lower layers only: every import is checked against a table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import drq_sn

PACKAGE = Path(drq_sn.__file__).parent
ROOT = PACKAGE.parent

LAYERS = {
    "output": 0,
    "types": 0,
    "validation": 0,
    "envs": 1,
    "networks": 1,
    "agents": 2,
    "profiling": 3,
    "training": 3,
    "runs": 4,
    "report": 5,
    "cli": 6,
}


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py" and path.parent.name != "cfg"]


def dotted(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_packages_import_lower_packages_only(path):
    here = dotted(path).split(".")[0]
    for name in imports(path):
        if name.startswith("drq_sn."):
            there = name.split(".")[1]
            assert there == here or LAYERS[there] < LAYERS[here], f"{dotted(path)} imports {name}, which is not lower"
        else:
            assert not name.startswith(("hydra", "omegaconf")) or here == "cli", f"{dotted(path)} imports {name}"


def test_the_loop_knows_no_concrete_class():
    names = {name.split(".")[1] for name in imports(PACKAGE / "training" / "loop.py") if name.startswith("drq_sn.")}
    assert names <= {"types", "validation"}


def test_environments_need_no_torch():
    for path in (PACKAGE / "envs").glob("*.py"):
        assert not any(name.split(".")[0] == "torch" for name in imports(path)), path


def test_no_file_is_long_and_none_is_a_utils():
    for path in modules():
        assert len(path.read_text().splitlines()) <= 300, path
        assert "util" not in path.name
        assert "helper" not in path.name


def test_no_test_module_is_a_library():
    for path in (ROOT / "tests").rglob("*.py"):
        parts = {part for name in imports(path) for part in name.split(".")[:-1]}
        assert not [part for part in parts if part.startswith("test_") or part == "conftest"], path
