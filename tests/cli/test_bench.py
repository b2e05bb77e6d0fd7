"""`make bench`, small but whole."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from hydra import compose, initialize_config_dir

from drq_sn.cli.bench import check_settings, train_side_by_side
from drq_sn.cli.config.build import config_dir
from drq_sn.validation import InvalidInput

TINY = ["task=synthetic_point", "env.image_size=24", "head.width=16", "agent.num_filters=4", "batch_size=8", "num_updates=2",
        "num_repeats=3", "replay_steps=100", "runtimes=[eager]", "rendered_tasks=[synthetic_point]", "rendered_frames=5",
        "device=cpu", "num_threads=1"]  # fmt: skip
SHORT = ["training.laptop={num_train_frames: 2200, eval_every_frames: 1000, num_eval_episodes: 1}"]


def bench(tmp_path, *words):
    return subprocess.run(command(tmp_path, *words), capture_output=True, text=True, cwd=tmp_path)


def command(tmp_path, *words):
    return [sys.executable, "-m", "drq_sn.cli.bench", f"out_dir={tmp_path / 'out'}", *words]


def rows(folder, part):
    return list(csv.DictReader((folder / f"{part}.csv").read_text().splitlines()))


def test_every_part_is_measured_and_written(tmp_path):
    models = "models=[{head: modern2, normalizer: spectral}]"
    parts = ["parts=[updates,rendering,training,scaling]", "scaling=[{option: batch_size, values: [4]}]"]
    result = bench(tmp_path, *TINY, *SHORT, *parts, models, "agents=[drqv2]", "runs_at_once=[2]")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "out").iterdir()
    (update,) = rows(folder, "updates")
    assert (update["agent"], update["head"], update["normalizer"], update["runtime"], update["batch_size"]) == (
        "drqv2", "modern2", "spectral", "eager", "8",
    )  # fmt: skip
    measured = json.loads((folder / "bench.json").read_text())
    (raw,) = measured["results"]["updates"]
    times = sorted(repeat["update"] for repeat in raw["repeats"])
    assert len(times) == 3
    assert float(update["ms_per_update"]) == pytest.approx(1000 * times[1])
    shares = sorted(raw["flops_per_update"] / r["update"] / r["matmul_flops_per_second"] for r in raw["repeats"])
    assert float(update["share_of_matmul"]) == pytest.approx(shares[1])
    (scaled,) = rows(folder, "scaling")
    assert (scaled["changed"], scaled["value"], scaled["batch_size"]) == ("batch_size", "4", "4")
    assert float(scaled["gflop_per_update"]) < float(update["gflop_per_update"])
    drawings = {row["drawing"]: row for row in rows(folder, "rendering")}
    assert float(drawings["exact"]["identical_frames"]) == 1.0
    assert all(float(row["ms_per_step"]) > 0 for row in drawings.values())
    training = rows(folder, "training")
    assert [row["runs_at_once"] for row in training] == ["1", "2"]
    assert all(float(row["frames_per_second_of_all"]) > 0 and float(row["peak_memory_gb"]) > 0.1 for row in training)
    assert "updates\nagent  head" in result.stdout


def test_what_was_measured_before_an_interruption_is_kept(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, *TINY, "parts=[rendering,updates]", "num_repeats=100000"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("updates"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    process.stderr.close()
    assert process.wait(30) == 128 + signal.SIGTERM
    (folder,) = (tmp_path / "out").iterdir()
    assert len(rows(folder, "rendering")) == 4
    assert not (folder / "updates.csv").exists()


def test_a_run_that_fails_is_a_row_with_its_reason(tmp_path):
    measured = train_side_by_side(tmp_path, ["task=synthetic_point", "lr=-1"], 1)
    assert measured == {"error": "error: lr must be a number > 0, got -1"}
    assert not (tmp_path / "0").exists()
    assert os.listdir(tmp_path) == ["0.log"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["parts=[updates,speed]"], "parts must be one of rendering, scaling, training, updates, got 'speed'"),
        (["runtimes=[egaer]"], "unknown runtimes 'egaer'; did you mean 'eager'"),
        (["models=[mlp2]"], "models must hold entries like {head: mlp2, normalizer: none}, got mlp2"),
        (["agents=drq"], "agents must be a list, got drq; write agents=[drq]"),
        (["agents=[]"], "number of agents must be an integer >= 1, got 0"),
        (
            ["scaling=[{option: bach_size, values: [1]}]"],
            "scaling must hold entries like {option: batch_size",
        ),
        (["scaling=5"], "scaling must be a list, got 5; write scaling=[5]"),
        (["replay_steps=0"], "replay_steps must be an integer >= 100"),
        (
            ["training.laptop.num_train_frames=2000"],
            "training.laptop.num_train_frames must be more than eval_every_frames",
        ),
        (["num_repeats=0"], "num_repeats must be an integer >= 1"),
        (["rendered_tasks=[cheetah_rum]"], "did you mean 'cheetah_run'"),
        (["training_preset=desktop"], "training_preset must be one of full, laptop, got 'desktop'"),
    ],
)
def test_wrong_values_are_named(words, message):
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        cfg = compose("bench", overrides=words)
        with pytest.raises(InvalidInput, match=re.escape(message)):
            check_settings(cfg, torch.device("cpu"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("agent=drq", "agent=drq: bench takes lists, agents=[...], models=[...] and runtimes=[...]"),
        ("num_repeats=0", "num_repeats must be an integer >= 1"),
        ("-m", "--multirun: a benchmark goes through"),
    ],
)
def test_the_command_answers_a_wrong_value_with_one_line(tmp_path, word, message):
    result = bench(tmp_path, word)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
