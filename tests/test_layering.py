"""A room imports lower floors only (architecture): walks every import against this table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import drq_sn

PACKAGE = Path(drq_sn.__file__).parent
ROOT = PACKAGE.parent

FLOORS = {
    "checks": 0,
    "types": 0,
    "schedules": 1,
    "distributions": 1,
    "losses": 1,
    "augmentations": 1,
    "networks.initializers": 1,
    "networks.spectral": 1,
    "networks.normalizers": 1.5,
    "networks.spectral_schedules": 2,
    "networks.projection": 2,
    "networks.heads": 2,
    "networks.encoders": 2,
    "networks.actor_critic": 2.5,
    "penalties": 1,
    "envs": 1,
    "replay": 1,
    "board": 0,
    "hyperparameters": 0,
    "metrics": 1,
    "checkpoint": 1,
    "checkpoint_store": 2,
    "machine": 1,
    "processor": 1,
    "runtime": 1,
    "video": 1,
    "agents": 3,
    "tracing": 1,
    "reference": 1,
    "profile_report": 2,
    "instruments": 4,
    "loop": 4,
    "offline": 4.5,
    "offline_report": 3,
    "parallel_evaluation": 4.5,
    "profiler": 4,
    "benchmark": 4.5,
    "bench_report": 2,
    "run_logs": 1,
    "tabular": 0,
    "diagnosis": 2,
    "diagnosis_report": 2.5,
    "report": 3,
    "progress": 2,
    "sweep_table": 2.5,
    "cli": 5,
}
STRANGERS = ("envs", "replay", "metrics", "agents")  # these do not know each other
ONE_ROOM = ("envs", "agents", "report", "cli")  # packages whose files may import one another


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py" and path.parent.name != "cfg"]


def dotted(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room(name):
    """The longest name in the table that `name` lies in."""
    return max((r for r in FLOORS if name == r or name.startswith(r + ".")), key=len, default=None)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_go_down(path):
    here = dotted(path)
    if here == "networks":  # the package's own docstring
        return
    assert room(here) is not None, f"{here} has no room in the table"
    for name in imports(path):
        if not name.startswith("drq_sn."):
            assert not name.startswith(("hydra", "omegaconf")) or here.startswith("cli"), (
                f"{here} imports {name}: Hydra lives in cli"
            )
            continue
        there = room(name.removeprefix("drq_sn."))
        if there is None or (there == room(here) and there in ONE_ROOM):
            continue
        assert FLOORS[there] < FLOORS[room(here)] or there == room(here), f"{here} imports {name}, which is no lower"
        assert not (room(here) in STRANGERS and there in STRANGERS), f"{here} knows {there}"


def test_the_loop_knows_no_concrete_class():
    names = {room(n.removeprefix("drq_sn.")) for n in imports(PACKAGE / "loop.py") if n.startswith("drq_sn.")}
    assert names <= {"types", "checks"}


def test_environments_need_no_torch():
    for path in (PACKAGE / "envs").glob("*.py"):
        assert not any(name.split(".")[0] == "torch" for name in imports(path)), path


def test_no_file_is_long_and_none_is_a_utils():
    for path in modules():
        assert len(path.read_text().splitlines()) <= 300, path
        assert "util" not in path.name
        assert "helper" not in path.name
