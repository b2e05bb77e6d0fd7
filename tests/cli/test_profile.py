"""`drq-sn profile`, small but whole."""

from __future__ import annotations

import json
import signal

import pytest
import torch
from hydra.core.hydra_config import HydraConfig

from drq_sn.cli import profile
from drq_sn.cli.config.overrides import initialized
from drq_sn.cli.profile import check_options, run_profile
from drq_sn.cli.running.signals import Interrupted
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
    "heads=[modern2]",
    "normalizers=[spectral]",
    "device=cpu",
    "num_threads=1",
]


def test_every_row_is_measured_and_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "out" / "machine" / "drq_batch8" / "profile.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    monkeypatch.setattr("drq_sn.runs.provenance.device_name", lambda device: "Machine")
    result = invoke(profile.main, *TINY, "trace=true", "out_dir=out")
    assert result.returncode == 0, result.stderr
    assert "reduced against the paper: batch_size 8 (paper: 512), num_updates 2 (paper: 500)" in result.stdout
    assert (tmp_path / "out" / "machine" / "drq_batch8.1" / "profile.json").read_text() == "{}"
    (row,) = read_csv(old.with_name("table.csv"))
    assert (row["head"], row["normalizer"], row["num_rounds"]) == ("modern2", "spectral", "2")
    assert float(row["training_time_ms"]) > 0
    assert float(row["acting_memory_mb"]) > 0
    assert [path.name for path in old.parent.glob("trace_*")] == ["trace_modern2_spectral.json.gz"]
    assert [m["round"] for m in json.loads(old.read_text())["measurements"]] == [0, 1, 2]


def test_every_head_is_measured_with_every_normalizer(tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr("drq_sn.cli.profile.take_turns", lambda *arguments: rows.extend(arguments[0]) or iter([]))
    run(tmp_path, "out", "heads=[mlp2,mlp4]", "normalizers=[none,spectral]")
    assert [row.title for row in rows] == ["mlp2 none", "mlp2 spectral", "mlp4 none", "mlp4 spectral"]
    assert all(row.prepare == {"details": True, "trace_path": None} for row in rows)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["runtime=compile"], "runtime must be eager"),
        (["num_rounds=0"], "num_rounds must be an integer >= 1"),
        (["batch_size=-3"], "batch_size must be an integer >= 1, got -3"),
        (["replay_steps=5"], "replay_steps must be an integer >= 100"),
    ],
)
def test_invalid_values_are_named(overrides, message):
    cfg = compose_config(*overrides, config="profile")
    with pytest.raises(InvalidInput, match=message):
        check_options(cfg, torch.device("cpu"), overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["-m"], "--multirun: a profile goes through"), (["hedas=[mlp2]"], "did you mean 'heads'")],
)
def test_an_invalid_command_line_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    result = invoke(profile.main, *overrides)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def run(tmp_path, out_dir="out", *more):
    overrides = [*TINY, f"out_dir={tmp_path / out_dir}", *more]
    cfg = compose_config(*overrides, config="profile", return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with initialized():
        run_profile(cfg, overrides)


def test_what_was_measured_outlives_an_interruption(tmp_path, monkeypatch):
    def interrupted_turns(rows, *_):
        yield rows[0], 1, {"training_seconds": 1, "acting_seconds": 1}
        assert len(list((tmp_path / "out").glob("*/drq_batch8/profile.json"))) == 1  # written as it comes
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("drq_sn.cli.profile.take_turns", interrupted_turns)
    with pytest.raises(Interrupted):
        run(tmp_path)
    (table,) = (tmp_path / "out").glob("*/drq_batch8/table.csv")
    assert table.read_text().splitlines()[1].startswith("modern2,spectral,1")


def test_a_directory_that_cannot_be_made_is_named_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"out_dir must be a writable directory, got .*cannot be created"):
        run(tmp_path, "file")
