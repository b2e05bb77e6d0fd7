"""A visit to a new machine: every step once, in order, whatever becomes of one."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from drq_sn.cli.config.overrides import check_overrides

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def visit():
    spec = importlib.util.spec_from_file_location("visit", ROOT / "tools" / "visit.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["visit"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["visit"]


@pytest.fixture
def step(visit, tmp_path):
    """`step(name, code)` -> a step that executes `code` in a folder of its own."""

    def build(name, code, leaves=""):
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}_code.py").write_text(code)
        return visit.Step(name, (f"{name}_code",), folder, leaves)

    return build


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def statuses(known):
    return {name: entry["status"] for name, entry in known.items()}


def test_a_failing_step_keeps_none_from_its_turn_and_is_tried_again(visit, step, out):
    plan = [step("first", "print('said')"), step("broken", "raise SystemExit(3)"), step("report", "print('made')")]
    known = visit.visit(plan, out, minutes=1)
    assert statuses(known) == {"first": "done", "broken": "failed", "report": "done"}
    assert known["broken"]["exit_code"] == 3
    assert known["first"]["command"] == "python -m first_code"
    (plan[1].folder / "broken_code.py").write_text("")
    assert statuses(visit.visit(plan, out, minutes=1)) == {"first": "done", "broken": "done", "report": "done"}
    assert (out / "first.txt").read_text() == "said\n"  # once
    assert (out / "report.txt").read_text() == "made\nmade\n"  # at every visit
    assert json.loads((out / "visit.json").read_text())["machine"]["device"]


def test_when_the_time_is_over_a_step_may_save_and_the_next_visit_goes_on(visit, step, out):
    save = "import pathlib, signal, sys, time\n" \
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('saved').touch(), sys.exit(143)))\n" \
        "pathlib.Path('saved').exists() or time.sleep(60)\n"  # fmt: skip
    plan = [step("long", save), step("later", ""), step("report", "")]
    assert statuses(visit.visit(plan, out, minutes=2 / 60)) == {"long": "interrupted", "report": "done"}
    assert (plan[0].folder / "saved").exists()
    assert statuses(visit.visit(plan, out, minutes=1)) == {"long": "done", "later": "done", "report": "done"}


def test_graphs_are_used_only_where_their_tests_have_passed(visit, step, out):
    tests, learn = step("gpu_tests", "raise SystemExit(1)"), step("learn", "import sys; print(sys.argv[1])")
    learn = dataclasses.replace(learn, words=(*learn.words, visit.FASTEST))
    visit.visit([tests, learn], out, minutes=1)
    (tests.folder / "gpu_tests_code.py").write_text("")
    (learn.folder / "learn_code.py").write_text("import sys; print(sys.argv[1]); sys.exit(1)")
    again = dataclasses.replace(learn, name="again")
    visit.visit([tests, again], out, minutes=1)
    assert (out / "learn.txt").read_text() == "runtime=eager\n"
    assert (out / "again.txt").read_text() == "runtime=cuda_graph\n"


def test_what_steps_leave_is_kept_without_weights(visit, step, out):
    code = """
from pathlib import Path
for name in ("results/profile/gpu/drq/table.csv", "runs/t/a/seed_1/eval.csv", "runs/t/a/seed_1/weights.pt"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(name)
"""
    visit.visit([step("profile", code, "results/profile")], out, minutes=1)
    assert (out / "profile" / "table.csv").read_text() == "results/profile/gpu/drq/table.csv"
    assert [path.name for path in (out / "runs").rglob("*") if path.is_file()] == ["eval.csv"]


@pytest.mark.parametrize("smallest", [False, True])
def test_every_step_is_a_command_that_is_accepted(visit, out, smallest):
    for planned in visit.steps(out, out, 4, smallest):
        module, *words = planned.words
        name = module.rsplit(".", 1)[-1]
        if name not in ("pytest", "doctor"):
            check_overrides([*(["-m"] if name == "sweep" else []), *words], name)


def test_without_a_gpu_it_says_so(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "visit.py"), "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": ""})
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # every step for real, with the smallest numbers
def test_a_whole_visit(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "tools" / "visit.py"),
        "--out",
        str(tmp_path / "out"),
        "--work",
        str(tmp_path / "work"),
    ]
    result = subprocess.run([*command, "--try"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder,) = (tmp_path / "out").iterdir()
    for name in ("doctor.txt", "profile/table.csv", "bench/updates.csv", "report/index.html", "visit.json"):
        assert (folder / name).is_file(), name
    assert len(list(folder.glob("runs/*/*/*/eval.csv"))) == 5 * 3 + 2
