"""Logs: arithmetic, whole files, and a TensorBoard that can be read back."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from drq_sn.agents import DQN, DrQ, DrQV2
from drq_sn.runs.charts import chart_layout, tag
from drq_sn.runs.logger import RunLogger
from drq_sn.runs.loggers import NullLogger
from drq_sn.runs.video import VideoRecorder
from drq_sn.training.diagnostics import EPISODE_METRICS, STATE_METRICS
from tests.builders import make_episodes, read_csv

NAMES = ("critic_loss", "q1", "grad_norm/actor")
SIGMAS = ("sigma/critic.q1.blocks.0.expand",)
DIAGNOSTICS = ("seconds", "smoothness", "sigma/critic.q1.first", "effective_lr/actor.head.first")


def metrics(*values):
    return {name: torch.tensor(float(value)) for name, value in zip(NAMES, values, strict=True)}


@pytest.fixture
def logged(tmp_path):
    logger = RunLogger(tmp_path, 2000, NAMES, SIGMAS, DIAGNOSTICS, num_eval_episodes=3)
    logger.diagnostics(0, 0, {"seconds": 0.5, "sigma/critic.q1.first": 1.0})  # before there are states to look at
    logger.evaluation(0, 0, [*make_episodes(1.0, 2.0), make_episodes(6.0)[0]._replace(diverged=True)])
    logger.episode(1000, 500, 12.5, 500, {}, diverged=True)
    logger.update(metrics(1, 10, 5))
    logger.update(metrics(3, 20, 2))
    logger.episode(2000, 1000, 20.0, 500, {SIGMAS[0]: torch.tensor(1.25)}, diverged=False)
    assert logger.diverged_simulations == {"training": 1, "evaluation": 1}
    whole_before_closing = (tmp_path / "train.csv").read_text()
    logger.close()
    assert (tmp_path / "train.csv").read_text() == whole_before_closing
    return tmp_path


def test_eval_csv(logged):
    (row,) = read_csv(logged / "eval.csv")
    names = ["frame", "step", "episode_return_mean", "episode_return_sd", "num_episodes", "num_diverged_simulations"]
    assert list(row)[:7] == [*names, "wall_time_s"]
    assert row["num_diverged_simulations"] == "1"
    assert (row["frame"], row["step"], row["num_episodes"]) == ("0", "0", "3")
    assert float(row["episode_return_mean"]) == 3.0
    assert float(row["episode_return_sd"]) == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert [float(row[f"return_{i}"]) for i in (1, 2, 3)] == [1.0, 2.0, 6.0]


def test_train_csv(logged):
    first, second = read_csv(logged / "train.csv")
    assert first["critic_loss"] == ""  # nothing was learned yet
    assert (second["frame"], second["episode"], second["num_updates"]) == ("2000", "2", "2")
    assert [row["num_diverged_simulations"] for row in (first, second)] == ["1", "1"]
    assert float(second["critic_loss"]) == 2.0
    assert float(second["grad_norm_max/actor"]) == 5.0
    assert float(second[SIGMAS[0]]) == 1.25
    assert float(second["frames_per_second"]) > 0


def test_the_clocks_of_a_resumed_run_continue(tmp_path, monkeypatch):
    clock, state = SimpleNamespace(now=0.0), None
    monkeypatch.setattr("drq_sn.runs.logger.time.monotonic", lambda: clock.now)
    for start, end_of_episode, end, frame in ((1000.0, 1010.0, 1012.0, 100), (5000.0, 5008.0, 5009.0, 200)):
        clock.now = start
        logger = RunLogger(tmp_path, 2000, NAMES, SIGMAS, (), num_eval_episodes=3, state=state)
        clock.now = end_of_episode
        logger.episode(frame, frame // 2, 1.0, 50, {}, diverged=False)
        clock.now = end
        state = logger.state_dict()
        logger.close()
    rows = read_csv(tmp_path / "train.csv")
    assert [float(row["wall_time_s"]) for row in rows] == [10.0, 12.0 + 8.0]
    assert [float(row["frames_per_second"]) for row in rows] == [100 / 10, 100 / (2 + 8)]


def test_diagnostics_csv(logged):
    (row,) = read_csv(logged / "diagnostics.csv")
    assert list(row) == ["frame", "step", *DIAGNOSTICS]
    assert (row["frame"], row["smoothness"], row["sigma/critic.q1.first"]) == ("0", "", "1.0")


def test_without_diagnostics_there_is_no_file_for_them(tmp_path):
    RunLogger(tmp_path, 2000, NAMES, SIGMAS, (), num_eval_episodes=3).close()
    assert not (tmp_path / "diagnostics.csv").exists()


def test_tensorboard_holds_the_scalars_and_a_layout(logged):
    events = EventAccumulator(str(logged)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/episode_return", "eval/episode_return", "learner/critic_loss", "grad_norm/actor", SIGMAS[0]} <= tags
    assert {"network_state/seconds", "network_layers/sigma/critic.q1.first"} <= tags
    assert min(tags) == "eval/episode_return"  # TIME SERIES sorts groups by name
    assert "train/diverged_simulations" in tags
    assert not {name for name in tags if "wall_time" in name or name.endswith(("/frame", "/step"))}
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    assert [e.value for e in events.Scalars("eval/episode_return")] == [3.0]


def charted(chart):
    """What TensorBoard shows in a chart: every tag that begins with one of its patterns."""
    kind, patterns = chart
    assert kind == "Multiline"
    logged = [*SIGMAS, "sigma/critic.trunk.linear", "sigma/critic_target.q1.first", "sigma/actor.head.first"]
    logged += [tag("diagnostics", name) for name in DIAGNOSTICS]
    return {name for name in logged if any(re.match(pattern, name) for pattern in patterns)}


def test_the_layout_finds_the_layers_of_the_run_and_what_agents_report():
    layout = chart_layout(SIGMAS, DIAGNOSTICS)
    assert charted(layout["Spectral norms"]["critic"]) == {SIGMAS[0], "sigma/critic.trunk.linear"}
    assert charted(layout["Diagnostics: spectral norms"]["critic"]) == {"network_layers/sigma/critic.q1.first"}
    assert charted(layout["Diagnostics: effective learning rates"]["actor"]) == {
        "network_layers/effective_lr/actor.head.first"
    }
    assert set(chart_layout((), ())["Comparing runs"]) == {"Return of evaluations"}
    assert set(chart_layout((), ())) == {"Comparing runs", "Return", "Learning", "Throughput"}
    reported = {*DrQ.metric_names, *DrQV2.metric_names, *DQN.metric_names}
    for name in [name for _, names in layout["Learning"].values() for name in names]:
        assert name.rstrip("$").removeprefix("learner/").replace("grad_norm_max", "grad_norm") in reported


def test_runs_with_other_layers_have_the_same_charts():
    """TensorBoard merges equal charts; one that differed would stand twice on the page."""
    others = (
        ("sigma/critic.q1.layers.1",),
        ("smoothness", "sigma/critic.q1.layers.0", "effective_lr/actor.head.layers.0"),
    )
    assert chart_layout(*others) == chart_layout(SIGMAS, DIAGNOSTICS)


def test_charts_for_comparing_hold_one_quantity():
    diagnostics = (*STATE_METRICS, *EPISODE_METRICS)
    names = {"episode_return", *DrQV2.metric_names}
    names |= {name.replace("grad_norm/", "grad_norm_max/") for name in names}
    charts = chart_layout(sorted(names), diagnostics)["Comparing runs"]
    logged = {"eval/episode_return", *(tag("train", name) for name in names)}
    logged |= {tag("diagnostics", name) for name in diagnostics}
    assert {"Gradient norm (largest): encoder", "Critic loss"} <= set(charts)
    assert "Gradient norm (mean): q_network" not in charts
    assert "Gradient norm (mean): q_network" in chart_layout(DQN.metric_names, ())["Comparing runs"]
    for kind, patterns in charts.values():
        assert kind == "Multiline"
        assert len([name for name in logged for pattern in patterns if re.match(pattern, name)]) == 1
    without = chart_layout((), ())["Comparing runs"].values()
    assert not any(pattern.startswith("network") for _, patterns in without for pattern in patterns)


def test_every_diagnostic_has_a_chart():
    charted = {
        name
        for _, names in chart_layout((), (*STATE_METRICS, *EPISODE_METRICS))["Diagnostics"].values()
        for name in names
    }
    assert {name.rstrip("$") for name in charted} == {
        tag("diagnostics", name) for name in (*STATE_METRICS, *EPISODE_METRICS)
    }


def test_tensorboard_has_configuration_record_and_commit_as_text(tmp_path):
    (tmp_path / "run.json").write_text('{"git_commit": "abc", "device": "a CPU"}')
    RunLogger(tmp_path, 2000, NAMES, (), (), 1, config={"lr": 0.5}).close()
    events = EventAccumulator(str(tmp_path)).Reload()
    texts = {name: events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
             for name in ("config", "run.json", "git_commit")}  # fmt: skip
    assert texts["config"] == "```yaml\nlr: 0.5\n```"
    assert '"device": "a CPU"' in texts["run.json"]
    assert texts["git_commit"] == "abc"


class Fading:
    """An environment whose frames get lighter."""

    shade = 0

    def render(self, height, width):
        self.shade += 2
        return np.full((height, width, 3), self.shade - 2, np.uint8)


def test_a_video_is_a_moving_image_and_a_strip(tmp_path):
    env, logger = Fading(), RunLogger(tmp_path, 2000, NAMES, (), (), 1)
    with VideoRecorder(tmp_path / "1000.mp4", 30) as record:
        for _ in range(120):
            record(env)
    logger.video(record, 1000)
    record.is_complete = False
    logger.video(record, 2000)  # as if its encoder had failed, with an older file in place
    logger.video(None, 3000)
    logger.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    ((moving,), (strip,)) = (events.Images(f"eval/{name}") for name in ("video", "strip"))
    assert (moving.step, moving.width, moving.height, strip.width, strip.height) == (1000, 128, 128, 8 * 128, 128)
    assert len(imageio.mimread(moving.encoded_image_string, format="GIF")) == 60  # every second one
    shades = imageio.imread(strip.encoded_image_string)[64, 64::128, 0]
    assert shades.astype(float) == pytest.approx(np.linspace(0, 238, 8), abs=4)


class Broken(NullLogger):
    rows = 0

    def log(self, table, row):
        self.rows += 1
        raise OSError("no connection")


def test_a_failing_logger_is_left_out_with_a_warning_and_others_go_on(tmp_path):
    broken = Broken()
    logger = RunLogger(tmp_path, 2000, NAMES, (), (), 1, further=broken)
    with pytest.warns(UserWarning, match="Broken failed and is disabled: no connection"):
        logger.evaluation(0, 0, make_episodes(1.0))
    logger.evaluation(1000, 500, make_episodes(2.0))
    logger.close()
    assert broken.rows == 1
    assert [row["frame"] for row in read_csv(tmp_path / "eval.csv")] == ["0", "1000"]


class Diary(NullLogger):
    def __init__(self):
        self.calls = []

    def start(self, run):
        self.calls.append(("start", run.config["lr"], run.resumed_at, run.columns["train"][0]))

    def log(self, table, row):
        self.calls.append((table, row["frame"]))

    def flush(self):
        self.calls.append("flush")

    def close(self, success):
        self.calls.append(("close", success))


def test_a_logger_of_ones_own_gets_everything(tmp_path):
    diary, again = Diary(), Diary()
    logger = RunLogger(tmp_path, 2000, NAMES, (), DIAGNOSTICS, 1, config={"lr": 0.5}, further=diary)
    logger.step(1000)
    logger.episode(1000, 500, 12.5, 500, {}, diverged=False)
    logger.evaluation(1000, 500, make_episodes(1.0))
    logger.diagnostics(1000, 500, {"seconds": 1.0})
    state = logger.state_dict()
    logger.end(success=True)
    logger.close()
    logged = [("train", 1000), ("eval", 1000), ("diagnostics", 1000)]
    assert diary.calls == [("start", 0.5, None, "frame"), *logged, "flush", ("close", True)]
    RunLogger(tmp_path, 2000, NAMES, (), DIAGNOSTICS, 1, state, config={"lr": 0.5}, further=again).close()
    assert again.calls == [("start", 0.5, 1000, "frame"), ("close", None)]
