"""Damaged run directories, given to every command that takes one: one line, or in a report one warning."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml

import drq_sn
from drq_sn.cli import evaluate, export, fit_replay
from drq_sn.cli.config.build import build_agent, build_env
from drq_sn.cli.config.saved import read_config
from drq_sn.cli.report import read_runs
from drq_sn.runs.files import WeightsWriter, load_weights, to_bytes
from drq_sn.validation import InvalidInput
from tests.builders import TINY, invoke, read_csv, write_config

pytestmark = pytest.mark.process  # writes many reports

MLP2 = ["agent=drq", "head=mlp2", "normalizer=none"]
EVALUATIONS = {0: 1.0, 10_000: 2.0, 20_000: 3.0}
LINES = (f"a{i}: &a{i} [{','.join(9 * [f'*a{i - 1}'])}]\n" for i in range(1, 9))
BOMB = "a0: &a0 [1]\n" + "".join(LINES)  # 9 ** 8 values
GARBAGE = bytes(range(256)) * 8


def edit(**values):
    """Damage: options of `config.yaml`, `__` for a dot; None removes one."""

    def damage(run_dir):
        path = run_dir / "config.yaml"
        options = yaml.safe_load(path.read_text())
        for name, value in values.items():
            *parents, last = name.split("__")
            node = options
            for parent in parents:
                node = node[parent]
            node.pop(last) if value is None else node.update({last: value})
        path.write_text(yaml.safe_dump(options))

    return damage


def write(name, content):
    """Damage: a file with this content."""
    return lambda run_dir: (run_dir / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def truncate(run_dir):
    path = run_dir / "config.yaml"
    path.write_text(path.read_text()[: len(path.read_text()) // 2 - 3])


def into_directory(run_dir):
    (run_dir / "config.yaml").rename(run_dir / "moved")
    (run_dir / "config.yaml").mkdir()


CONFIGS = {  # damage of `config.yaml`
    "half": truncate,
    "empty": write("config.yaml", ""),
    "garbage": write("config.yaml", GARBAGE),
    "not UTF-8": write("config.yaml", b"task: \xff\xfe\n"),
    "a list": write("config.yaml", "- 1\n- 2\n"),
    "a word": write("config.yaml", "config"),
    "open bracket": write("config.yaml", "task: ["),
    "deep": write("config.yaml", "a: " + 3000 * "["),
    "endless": write("config.yaml", "task: t\nseed: 1\na: &a [*a]\n"),
    "a bomb": write("config.yaml", BOMB),
    "no date": write("config.yaml", "task: 2024-99-99\n"),
    "a date": write("config.yaml", "task: t\nseed: 2024-01-01\n"),
    "no name": write("config.yaml", "task: t\nseed: 1\n? [1, 2]\n: 3\n"),
    "null name": write("config.yaml", "task: t\nseed: 1\nnull: 3\n"),
    "an object": write("config.yaml", "task: !!python/object/apply:os.system [ls]\n"),
    "missing value": edit(lr="???"),
    "no task": edit(task=None),
    "task a list": edit(task=["a"]),
    "task empty": edit(task=""),
    "task of control characters": edit(task="a\x1b[2J"),
    "no seed": edit(seed=None),
    "seed a word": edit(seed="one"),
    "seed negative": edit(seed=-1),
}  # fmt: skip
PARTS = {  # damage of what only building an agent or environment reads
    "no head": edit(head=None),
    "head a list": edit(head=[1, 2]),
    "head a number": edit(head=3),
    "no actor": edit(head__actor=None),
    "critic a list": edit(head__critic=["a"]),
    "width a word": edit(head__width="wide"),
    "width a list": edit(head__width=[1]),
    "width negative": edit(head__width=-4),
    "an unknown argument": edit(head__colour="red"),
    "head not partial": edit(head___partial_=False),
    "head without a target": edit(head___target_=None),
    "agent partial": edit(agent___partial_=True),
    "agent a list": edit(agent=[1]),
    "agent without a target": edit(agent___target_=None),
    "agent is a schedule": edit(agent={"_target_": "drq_sn.training.schedules.Constant", "value": 1.0}),
    "tau a word": edit(agent__tau="slow"),
    "networks a number": edit(normalizer__networks=3),
    "networks of numbers": edit(normalizer__networks=[1, [2]]),
    "normalizer a module": edit(normalizer={"_target_": "torch.nn.Sequential"}),
    "normalizer null": edit(normalizer=None),
    "penalty a list": edit(penalty=[1]),
    "schedule a word": edit(lr_schedule="constant"),
    "augmentation null": edit(augmentation=None),
    "no env": edit(env=None),
    "env a list": edit(env=["suite"]),
    "image size a word": edit(env__image_size="large"),
    "an unknown argument of env": edit(env__colour="red"),
    "an unknown task": edit(task="nothing_at_all"),
    "no action repeat": edit(action_repeat=None),
    "action repeat zero": edit(action_repeat=0),
    "lr a word": edit(lr="fast"),
    "lr a list": edit(lr=[1e-4]),
    "frames a word": edit(num_train_frames="many"),
    "batch size null": edit(batch_size=None),
}
CHOICES = {"agent": "drq", "head": "mlp2", "normalizer": "none", "preset": None, "task": "cheetah_run", "seed": 1}


def record(**content):
    """Damage: `run.json` with these entries beside intact choices."""
    intact = {"status": "finished", "choices": CHOICES, "overrides": []}
    return write("run.json", json.dumps(intact | content))


REFUSED_RECORDS = {
    "choices null": record(choices=None),
    "choices a list": record(choices=[1]),
    "choices empty": record(choices={}),
    "agent a list": record(choices=CHOICES | {"agent": ["drq"]}),
    "task a number": record(choices=CHOICES | {"task": 7}),
    "task with dollars": record(choices=CHOICES | {"task": "$x^{$"}),
    "task too long": record(choices=CHOICES | {"task": "t" * 300}),
    "seed a word": record(choices=CHOICES | {"seed": "one"}),
    "seed huge": record(choices=CHOICES | {"seed": 10**400}),
    "overrides null": record(overrides=None),
    "overrides of words": record(overrides=["lr"]),
    "an override without a value": record(overrides=[{"name": "lr"}]),
    "an override with a list as name": record(overrides=[{"name": ["lr"], "value": 1, "published": 2}]),
}
HARMLESS_RECORDS = {
    "half": write("run.json", '{"status": "fini'),
    "garbage": write("run.json", GARBAGE),
    "deep": write("run.json", 100_000 * "["),
    "a list": write("run.json", "[1, 2]"),
    "null": write("run.json", "null"),
    "status a list": record(status=["finished"]),
    "status unknown": record(status="melted"),
    "frame huge": record(status="diverged", frame=10**400),
    "frame a list": record(status="diverged", frame=[1]),
    "versions a list": record(versions=["torch"], gl=3, device={"name": None}, git_commit=[1], first_frame_sha256=5),
    "an escape sequence": record(choices=CHOICES | {"head": "\x1b[2J"}),
    "surrogates": record(device="\ud800\x1b[2J<script>"),
    "a task with slashes": record(choices=CHOICES | {"task": "../../out/task"}),
    "override of anything": record(overrides=[{"name": "lr", "value": {"a": [1, "\ud800"]}, "published": None}]),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A run directory with the weights of an untrained agent."""
    run_dir = write_config(tmp_path_factory.mktemp("intact") / "run", TINY)
    cfg = read_config(run_dir)
    agent = build_agent(cfg, build_env(cfg), torch.device("cpu"))
    WeightsWriter(run_dir).save(agent.networks.state_dict(), frame=0, episode_return=1.0)
    return run_dir


@pytest.fixture
def damaged(intact, tmp_path):
    """`damaged(damage)` -> a copy of the intact run with this damage."""

    def copy(damage):
        run_dir = shutil.copytree(intact, tmp_path / "run")
        damage(run_dir)
        return run_dir

    return copy


def require_one_line(error, run_dir):
    assert str(run_dir) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", [*CONFIGS, *PARTS])
def test_a_damaged_configuration_is_one_line(damaged, name):
    run_dir = damaged((CONFIGS | PARTS)[name])
    with pytest.raises(InvalidInput) as error:
        drq_sn.load_agent(run_dir, "cpu")
    require_one_line(error, run_dir)


@pytest.mark.parametrize("command", [evaluate, export, fit_replay])
@pytest.mark.parametrize("name", ["half", "garbage", "critic a list", "agent partial", "networks a number"])
def test_commands_end_with_one_line(damaged, tmp_path, monkeypatch, command, name):
    monkeypatch.setattr(export, "EXTRA", ())
    run_dir = damaged((CONFIGS | PARTS)[name])
    before = sorted(tmp_path.rglob("*"))
    words = [f"out_dir={tmp_path / 'out'}", "depths=[1]", "normalizers=[none]"] if command is fit_replay else []
    result = invoke(command.main, f"run={run_dir}", *words)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert result.stderr.startswith((f"error: {run_dir}", "error: run: its head"))
    assert sorted(tmp_path.rglob("*")) == before


WEIGHTS = {
    "empty": b"",
    "garbage": GARBAGE,
    "a list": [1, 2],
    "no networks": {"format": 1, "frame": 0, "episode_return": 1.0},
    "networks a list": {"format": 1, "frame": 0, "episode_return": 1.0, "networks": [1]},
    "networks of numbers": {"format": 1, "frame": 0, "episode_return": 1.0, "networks": {"encoder.0.weight": 3}},
    "networks without names": {"format": 1, "frame": 0, "episode_return": 1.0, "networks": {3: torch.ones(2)}},
    "other networks": {"format": 1, "frame": 0, "episode_return": 1.0, "networks": {"a": torch.ones(2)}},
    "frame a word": {"format": 1, "frame": "last", "episode_return": 1.0, "networks": {}},
    "return a list": {"format": 1, "frame": 0, "episode_return": [1.0], "networks": {}},
    "another format": {"format": "new", "frame": 0, "episode_return": 1.0, "networks": {}},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights_are_one_line(damaged, name):
    content = WEIGHTS[name]
    run_dir = damaged(write("weights.pt", content if isinstance(content, bytes) else bytes(to_bytes(content))))
    with pytest.raises(InvalidInput) as error:
        drq_sn.load_agent(run_dir, "cpu")
    require_one_line(error, run_dir)


def test_weights_that_are_not_finite_are_one_line(damaged):
    run_dir = damaged(lambda run_dir: None)
    weights = load_weights(run_dir, "cpu")
    for value in weights["networks"].values():
        value.fill_(float("nan"))
    torch.save(weights, run_dir / "weights.pt")
    result = invoke(evaluate.main, f"run={run_dir}", "episodes=1", "device=cpu")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "its weights must be finite" in result.stderr


UNREADABLE = {
    **CONFIGS,
    **{f"record: {name}": damage for name, damage in REFUSED_RECORDS.items()},
    "a log": write("eval.csv", "frame,episode_return_mean\nsoon,1\n"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_damaged_run_is_one_warning_of_a_report(make_run_dir, tmp_path, name):
    make_run_dir("good", MLP2, EVALUATIONS)
    bad = make_run_dir("bad", MLP2, EVALUATIONS, seed=2)
    UNREADABLE[name](bad)
    (run,), (warning,) = read_runs([str(tmp_path / "runs")])
    assert run.directory.name == "good"
    assert warning.startswith(f"left out, not readable: {bad}")
    assert warning.isprintable()
    with pytest.raises(InvalidInput) as error:
        read_runs([str(bad)])
    require_one_line(error, bad)


def test_a_report_goes_on_without_a_damaged_run(make_run_dir, report, tmp_path):
    make_run_dir("good", MLP2, EVALUATIONS)
    truncate(make_run_dir("bad", MLP2, EVALUATIONS, seed=2))
    (line,) = [line for line in report().splitlines() if "not readable" in line]
    assert line.startswith("warning: left out, not readable: runs/bad/config.yaml")
    assert [row["folder"] for row in read_csv(tmp_path / "out" / "runs.csv")] == ["runs/good"]
    assert line.removeprefix("warning: ") in (tmp_path / "out" / "warnings.txt").read_text().splitlines()
    assert "left out, not readable: runs/bad/config.yaml" in (tmp_path / "out" / "index.html").read_text()


def test_a_directory_instead_of_a_configuration_is_no_run(make_run_dir, report, tmp_path):
    make_run_dir("good", MLP2, EVALUATIONS)
    into_directory(make_run_dir("bad", MLP2, EVALUATIONS, seed=2))
    report()
    assert [row["folder"] for row in read_csv(tmp_path / "out" / "runs.csv")] == ["runs/good"]


@pytest.mark.parametrize("name", HARMLESS_RECORDS)
def test_a_report_takes_what_it_can_of_a_damaged_record(make_run_dir, report, tmp_path, name):
    before = {path.name for path in tmp_path.iterdir()}
    HARMLESS_RECORDS[name](make_run_dir("bad", MLP2, EVALUATIONS, seed=2))
    printed = report()
    assert all(line.isprintable() for line in printed.splitlines())
    (row,) = read_csv(tmp_path / "out" / "runs.csv")
    assert row["folder"] == "runs/bad"
    assert row["last_return"] == "3"
    assert {path.name for path in tmp_path.iterdir()} == before | {"runs", "out"}
    assert "<script>" not in (tmp_path / "out" / "index.html").read_text()


def test_no_secret_reaches_a_report(make_run_dir, report, tmp_path, monkeypatch):
    monkeypatch.setenv("DRQ_SN_TEST_SECRET", "hunter2")
    make_run_dir("good", MLP2, EVALUATIONS)
    edit(task="${oc.env:DRQ_SN_TEST_SECRET}")(make_run_dir("bad", MLP2, EVALUATIONS, seed=2))
    assert "runs/bad/config.yaml: task must be a plain value" in report()
    assert not [path for path in (tmp_path / "out").iterdir() if b"hunter2" in path.read_bytes()]
