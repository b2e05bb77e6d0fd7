"""`make profile`, small but whole."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from drq_sn.cli.config.build import config_dir
from drq_sn.cli.fresh_process import ProcessDied, in_fresh_process
from drq_sn.cli.profile import check_settings, run_profile
from drq_sn.validation import InvalidInput

TINY = ["task=synthetic_point", "env.image_size=24", "head.width=16", "agent.num_filters=4", "batch_size=8", "num_updates=2",
        "num_runs=2", "num_acts=2", "replay_steps=100", "heads=[modern2]", "device=cpu", "num_threads=1"]  # fmt: skip


def profile(tmp_path, *words):
    command = [sys.executable, "-m", "drq_sn.cli.profile", f"out_dir={tmp_path / 'out'}", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)


def test_every_row_is_measured_and_written(tmp_path):
    result = profile(tmp_path, *TINY, "trace=true")
    assert result.returncode == 0, result.stderr
    assert "reduced against the paper: batch_size 8 (paper: 512), num_updates 2 (paper: 500)" in result.stdout
    (folder,) = (tmp_path / "out").glob("*/drq_batch8")
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert [(row["head"], row["normalizer"], row["num_runs"]) for row in rows] == [
        ("modern2", "none", "2"), ("modern2", "spectral", "2")
    ]  # fmt: skip
    assert all(float(row["training_time_ms"]) > 0 and float(row["acting_memory_mb"]) > 0 for row in rows)
    assert len(list(folder.glob("trace_*.json.gz"))) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["heads=[mlp2,mlp9]"], "unknown heads 'mlp9'; did you mean"),
        (["head=mlp4"], "head=mlp4: profile takes a list, heads=[mlp4]"),
        (["normalizers=[spectrl]"], "did you mean 'spectral'"),
        (["heads=[]"], "number of heads must be an integer >= 1"),
        (["runtime=compile"], "runtime must be eager"),
        (["num_runs=0"], "num_runs must be an integer >= 1"),
        (["batch_size=-3"], "batch_size must be an integer >= 1, got -3"),
        (["replay_steps=5"], "replay_steps must be an integer >= 100"),
    ],
)
def test_a_wrong_word_is_named(words, message):
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        cfg = compose("profile", overrides=words)
        OmegaConf.set_struct(cfg, False)
        with pytest.raises(InvalidInput) as error:
            check_settings(cfg, torch.device("cpu"), words)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"), [(["-m"], "--multirun: a profile goes through"), (["hedas=[mlp2]"], "did you mean 'heads'")]
)
def test_a_wrong_command_line_is_one_line_and_leaves_nothing(tmp_path, words, message):
    result = profile(tmp_path, *words)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_was_measured_outlives_an_interruption(tmp_path, monkeypatch):
    def measurements(*_):
        yield {"head": "mlp2", "normalizer": "none", "run": 1, "training_seconds": 1, "acting_seconds": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr("drq_sn.cli.profile._measurements", measurements)
    words = [*TINY, f"out_dir={tmp_path / 'out'}"]
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        cfg = compose("profile", overrides=words, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with pytest.raises(KeyboardInterrupt):
            run_profile(cfg, words)
    (table,) = (tmp_path / "out").glob("*/drq_batch8/table.csv")
    assert table.read_text().splitlines()[1].startswith("mlp2,none,1")


def test_a_folder_that_cannot_be_made_is_named_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    words = [*TINY, f"out_dir={tmp_path / 'file'}"]
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        cfg = compose("profile", overrides=words, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with pytest.raises(InvalidInput, match=r"out_dir must be a writable directory, got .*cannot be created"):
            run_profile(cfg, words)


def test_a_fresh_process_answers_raises_or_dies():
    assert in_fresh_process(os.getpid) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        in_fresh_process(divmod, 1, 0)
    with pytest.raises(ProcessDied, match="code 3"):
        in_fresh_process(os._exit, 3)
