"""Logs: arithmetic, whole files, and a TensorBoard that can be read back."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from drq_sn.agents import DrQ, DrQV2
from drq_sn.metrics import MetricAccumulator, RunLogger, board_layout

NAMES = ("critic_loss", "q1", "grad_norm/actor")
SIGMAS = ("sigma/critic.q1.blocks.0.expand",)


def metrics(*values):
    return {name: torch.tensor(float(value)) for name, value in zip(NAMES, values, strict=True)}


def test_means_over_updates_and_maxima_of_gradient_norms():
    accumulator = MetricAccumulator()
    accumulator.add(metrics(1, 10, 5))
    accumulator.add(metrics(3, 20, 2))
    accumulator.add({"critic_loss": torch.tensor(8.0)})  # an update without the actor
    assert accumulator.pop() == {"critic_loss": 4.0, "q1": 15.0, "grad_norm/actor": 3.5, "grad_norm_max/actor": 5.0}
    assert accumulator.pop() == {}


@pytest.fixture
def logged(tmp_path):
    logger = RunLogger(tmp_path, 2000, NAMES, SIGMAS, num_eval_episodes=3)
    logger.evaluation(0, 0, [1.0, 2.0, 6.0])
    logger.episode(1000, 500, 12.5, 500, {})
    logger.update(metrics(1, 10, 5))
    logger.update(metrics(3, 20, 2))
    logger.episode(2000, 1000, 20.0, 500, {SIGMAS[0]: torch.tensor(1.25)})
    whole_before_closing = (tmp_path / "train.csv").read_text()
    logger.close()
    assert (tmp_path / "train.csv").read_text() == whole_before_closing
    return tmp_path


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_eval_csv(logged):
    (row,) = rows(logged / "eval.csv")
    assert list(row)[:6] == ["frame", "step", "episode_return_mean", "episode_return_sd", "num_episodes", "wall_time_s"]
    assert (row["frame"], row["step"], row["num_episodes"]) == ("0", "0", "3")
    assert float(row["episode_return_mean"]) == 3.0
    assert float(row["episode_return_sd"]) == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert [float(row[f"return_{i}"]) for i in (1, 2, 3)] == [1.0, 2.0, 6.0]


def test_train_csv(logged):
    first, second = rows(logged / "train.csv")
    assert first["critic_loss"] == ""  # nothing was learned yet
    assert (second["frame"], second["episode"], second["num_updates"]) == ("2000", "2", "2")
    assert float(second["critic_loss"]) == 2.0
    assert float(second["grad_norm_max/actor"]) == 5.0
    assert float(second[SIGMAS[0]]) == 1.25
    assert float(second["frames_per_second"]) > 0


def test_tensorboard_holds_the_scalars_and_a_layout(logged):
    events = EventAccumulator(str(logged)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/episode_return", "eval/episode_return", "learner/critic_loss", "grad_norm/actor", SIGMAS[0]} <= tags
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    assert [e.value for e in events.Scalars("eval/episode_return")] == [3.0]


def test_the_layout_names_the_layers_of_the_run_and_what_agents_report():
    layout = board_layout(SIGMAS)
    assert layout["Spectral norms"] == {"critic": ["Multiline", list(SIGMAS)]}
    assert "Spectral norms" not in board_layout(())
    reported = {*DrQ.metric_names, *DrQV2.metric_names}
    for tag in [tag for _, tags in layout["Learning"].values() for tag in tags]:
        assert tag.removeprefix("learner/").replace("grad_norm_max", "grad_norm") in reported
