"""`drq-sn bench`, small but whole."""

from __future__ import annotations

import json
import re

import pytest
import torch

from drq_sn.cli import bench
from drq_sn.cli.bench import check_options, train_in_parallel
from drq_sn.validation import InvalidInput
from tests.builders import compose_config, invoke, read_csv

pytestmark = pytest.mark.process  # rows are measured by workers
TINY = [
    "task=synthetic_point",
    "env.image_size=24",
    "head.width=16",
    "agent.num_filters=4",
    "batch_size=8",
    "num_updates=2",
    "num_rounds=2",
    "num_acts=2",
    "replay_steps=100",
    "agents=[drqv2]",
    "heads=[mlp2]",
    "normalizers=[none]",
    "rendered_tasks=[synthetic_point]",
    "rendered_frames=5",
    "training_frames=2000",
    "runs_at_once=[]",
    "device=cpu",
    "num_threads=1",
]


def train_small(folder, options, number, gpus):
    """Whole runs of the preset, with smaller networks."""
    return train_in_parallel(folder, [*options, *TINY[1:5]], number, gpus)


def test_every_part_is_measured_and_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "train_in_parallel", train_small)
    result = invoke(bench.main, *TINY, "vary=batch_size", "values=[4]", "out_dir=out")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "out").iterdir()
    (update,) = read_csv(folder / "updates.csv")
    assert [update[name] for name in ("agent", "head", "normalizer", "runtime", "batch_size")] == [
        "drqv2", "mlp2", "none", "eager", "4",
    ]  # fmt: skip
    (measured,) = json.loads((folder / "bench.json").read_text())["results"]["updates"]
    times = [each["training_seconds"] for each in measured["rounds"]]
    assert len(times) == 2
    assert float(update["ms_per_update"]) == pytest.approx(1000 * sum(times) / 2)
    drawings = {row["drawing"]: float(row["ms_per_step"]) for row in read_csv(folder / "rendering.csv")}
    assert drawings.keys() == {"exact", "shadow map of 1024", "no shadows", "no shadows, no reflections"}
    assert min(drawings.values()) > 0
    (training,) = read_csv(folder / "training.csv")
    assert float(training["frames_per_second_of_all"]) > 0
    assert "updates\n| agent | head |" in result.stdout


def test_whole_runs_are_of_each_agents_first_and_last_model(monkeypatch):
    calls = []

    def train(folder, options, number, gpus):
        assert gpus == []
        assert "device=cpu" in options
        calls.append((*options[-3:], number))
        return {"frames_per_second": [1.0] * number}

    monkeypatch.setattr("drq_sn.cli.bench.train_in_parallel", train)
    monkeypatch.setattr("drq_sn.cli.bench.num_available_cores", lambda: 2)
    overrides = ["agents=[drqv2,drq]", "heads=[mlp2,mlp4,modern4]", "normalizers=[none,spectral]", "runs_at_once=[2]"]
    results = []
    cfg = compose_config(*overrides, "device=cpu", config="bench")
    check_options(cfg, torch.device("cpu"), overrides)
    for _ in bench.MEASURE["training"](cfg, overrides, results):
        pass
    first, last = ("head=mlp2", "normalizer=none", 1), ("head=modern4", "normalizer=spectral", 1)
    alone = [(f"agent={agent}", *model) for agent in ("drqv2", "drq") for model in (first, last)]
    assert calls == [*alone, ("agent=drqv2", *last[:2], 2)]
    assert [row["runs_at_once"] for row in results] == [1, 1, 1, 1, 2]


class Launcher:
    """A launcher whose runs end at once."""

    def __init__(self, *arguments, **options):
        pass

    def launch(self, jobs, say, exit_codes):
        for job in jobs:
            exit_codes[job] = self.end(job)


class Failing(Launcher):
    """A launcher whose runs end with an error."""

    def end(self, job):
        job.log.write_text("first\nerror: lr must be a number > 0, got -1\n")
        return 2


class Finishing(Launcher):
    """A launcher whose runs have three evaluations, of which the first precedes learning."""

    def end(self, job):
        folder = job.log.with_suffix("")
        folder.mkdir()
        (folder / "eval.csv").write_text("frame,wall_time_s\n0,5\n1000,100\n2000,150\n")
        return 0


def test_the_speed_of_a_run_is_that_of_learning(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "LocalLauncher", Finishing)
    assert train_in_parallel(tmp_path, [], 2, []) == {"frames_per_second": [20.0, 20.0]}


def test_whole_runs_on_a_gpu_share_the_chosen_one(monkeypatch):
    launchers = []

    class Recording(Finishing):
        def __init__(self, *arguments):
            launchers.append(arguments)

        def launch(self, jobs, say, exit_codes):
            assert all("device=cuda" in job.overrides for job in jobs)
            super().launch(jobs, say, exit_codes)

    monkeypatch.setattr(bench, "LocalLauncher", Recording)
    monkeypatch.setattr(bench, "visible_gpus", lambda: ["5", "7"])
    monkeypatch.setattr(bench.provenance, "select_device", torch.device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    overrides = ["device=cuda:1", "agents=[drqv2]", "heads=[mlp2]", "normalizers=[none]", "runs_at_once=[2]"]
    cfg = compose_config(*overrides, "training_frames=2000", config="bench")
    for _ in bench.MEASURE["training"](cfg, overrides, []):
        pass
    assert [(runs_per_gpu, gpus) for runs_per_gpu, _, _, gpus in launchers] == [(1, ["7"]), (2, ["7"])]


@pytest.mark.parametrize("launcher", [Failing, pytest.param(bench.LocalLauncher, marks=pytest.mark.slow)])
def test_a_run_that_fails_is_a_row_with_its_reason(tmp_path, monkeypatch, launcher):
    monkeypatch.setattr(bench, "LocalLauncher", launcher)
    measured = train_in_parallel(tmp_path, ["task=synthetic_point", "lr=-1"], 1, [])
    assert measured == {"error": "error: lr must be a number > 0, got -1"}
    assert [path.name for path in tmp_path.iterdir()] == ["seed_1.log"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["parts=[updates,speed]"], "parts must be one of games, rendering, training, updates, got 'speed'"),
        (["runtimes=[egaer]"], "unknown runtimes 'egaer'; did you mean 'eager'"),
        (["vary=bach_size", "values=[1]"], "unknown option 'bach_size'; did you mean 'batch_size'"),
        (["vary=batch_size"], "vary and values must be set together"),
        (["replay_steps=0"], "replay_steps must be an integer >= 100"),
        (["training_frames=1000"], "training_frames must be an integer >= 2000"),
        (["runs_at_once=[2,0]"], "runs_at_once must be an integer >= 1"),
        (["runs_at_once=10000"], "runs_at_once must be an integer >= 1 and <="),
        (["rendered_tasks=[cheetah_rum]"], "did you mean 'cheetah_run'"),
        (["training_preset=desktop"], "training_preset must be one of"),
        (["parts=[updates]", "task=cartpole_balence"], "did you mean 'cartpole_balance'"),
        (["parts=[updates]", "batch_size=-5"], "batch_size must be an integer >= 1"),
        (["parts=[updates]", "normalizer.layers=all"], "'normalizer.layers' with agent=drqv2 head=mlp2"),
        (["vary=heads", "values=[mlp4]"], "vary must be an option of train.yaml without a list of its own, got heads"),
        (["parts=[]"], "number of parts must be"),
        (["parts=[rendering]", "rendered_tasks=[]"], "number of rendered_tasks must be"),
    ],
)
def test_invalid_values_are_named(overrides, message):
    cfg = compose_config(*overrides, config="bench")
    with pytest.raises(InvalidInput, match=re.escape(message)):
        check_options(cfg, torch.device("cpu"), overrides)


def test_an_invalid_value_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(bench.main, "agent=drq")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert "takes a list, agents=[drq]" in result.stderr
    assert list(tmp_path.iterdir()) == []
