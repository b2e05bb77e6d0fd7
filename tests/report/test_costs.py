"""What runs cost, from their logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from drq_sn.report.costs import FIELDS, cost_of, cost_table, runs_rows, short_commit, total_table
from drq_sn.report.scores import Setting
from tests.report.synthetic_runs import MODERN_SN, scored

TRAIN = [
    {"frame": frame, "wall_time_s": seconds, "num_updates": updates, "frames_per_second": speed}
    for frame, seconds, updates, speed in (
        (1000, 10, 0, 900.0),
        (2000, 1800, 500, 10.0),
        (2500, 2000, 600, 90.0),
        (3000, 3600, 1000, 30.0),
    )
]


def test_hours_speed_and_updates():
    cost = cost_of(scored({0: 1.0, 20_000: 2.0}, train=TRAIN))
    assert (cost.hours, cost.frames_per_second, cost.num_updates, cost.device) == (
        1.0,
        30.0,
        1000,
        "a CPU",
    )  # the median of 10, 90 and 30; their mean is 43
    assert cost_of(scored({0: 1.0, 72_000: 2.0}, train=TRAIN)).hours == 2.0  # the last evaluation ends later
    assert cost_of(scored({}, train=TRAIN[:1])).frames_per_second == 900.0
    assert (cost_of(scored({})).hours, cost_of(scored({})).frames_per_second) == (None, None)


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_cells_that_are_no_finite_numbers_are_passed_over(bad):
    damaged = {"frame": 2700, "wall_time_s": bad, "num_updates": bad, "frames_per_second": bad}
    assert cost_of(scored({}, train=[*TRAIN, damaged])) == cost_of(scored({}, train=TRAIN))


def test_hours_are_summed_per_variant_and_device():
    runs = [
        scored({}, seed=1, train=TRAIN),
        scored({}, seed=2, train=TRAIN),
        scored({}, record={"device": "a GPU"}, train=TRAIN),
    ]
    runs += [scored({}, variant=MODERN_SN), scored({}, variant=MODERN_SN, train=TRAIN)]
    assert total_table(runs).rows == [
        ("DrQ", "mlp2", "a CPU", "2", "2.00"),
        ("DrQ", "mlp2", "a GPU", "1", "1.00"),
        ("DrQ", "modern4 + SN", "a CPU", "1", "1.00"),
    ]


def test_one_line_per_run(tmp_path):
    run = scored(
        {0: 1.0, 20: 2.5}, folder=tmp_path / "runs" / "x", train=TRAIN, departures=("a=1 (published: 2)", "b=3")
    )
    setting = Setting(2, run.departures, (run,))
    (line,) = cost_table([run], {id(run): setting}).rows
    assert line == ("cheetah_run DrQ mlp2 seed 1", "settings 2", "finished", "3 000", "1.00", "30.0", "1 000", "a CPU")
    (row,) = runs_rows([run], {id(run): setting}, set(), Path(tmp_path))
    assert tuple(row) == FIELDS
    assert (row["folder"], row["last_evaluation"], row["last_return"]) == ("runs/x", 20, 2.5)
    assert (row["settings"], row["counted"], row["departures"]) == ("settings 2", "no", "a=1 (published: 2); b=3")
    assert (row["mujoco"], row["gl_renderer"], row["first_frame_sha256"]) == ("3.11.0", "llvmpipe", "aaaabbbbcccc")


def test_what_an_old_record_lacks_is_unknown():
    run = scored({}, record={"versions": "lost", "gl": None, "git_commit": None})
    setting = Setting(1, (), (run,))
    (row,) = runs_rows([run], {id(run): setting}, {id(run)}, Path.cwd())
    assert [row[name] for name in ("mujoco", "gl_renderer", "git_commit", "last_evaluation")] == ["unknown"] * 3 + [
        None
    ]
    assert row["counted"] == "yes"


@pytest.mark.parametrize(("commit", "short"), [("a" * 40, "a" * 12), ("a" * 40 + "-dirty", "a" * 12 + "-dirty")])
def test_commits_are_shortened(commit, short):
    assert short_commit(commit) == short
