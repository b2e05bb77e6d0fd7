"""What runs cost, from their logs."""

from __future__ import annotations

import pytest

from drq_sn.report.costs import FIELDS, read_cost, runs_table
from drq_sn.report.types import Departure, Variant
from tests.builders import MLP2, MODERN_SN, make_log, make_run

ROWS = [
    {"frame": frame, "wall_time_s": seconds, "num_updates": updates, "frames_per_second": speed}
    for frame, seconds, updates, speed in (
        (1000, 10, 0, 900.0),
        (2000, 1800, 500, 10.0),
        (2500, 2000, 600, 90.0),
        (3000, 3600, 1000, 30.0),
    )
]
TRAIN = make_log(*ROWS)


def test_hours_speed_and_updates():
    cost = read_cost(make_run({0: 1.0, 20_000: 2.0}, train=TRAIN))
    assert (cost.hours, cost.frames_per_second, cost.num_updates, cost.device) == (
        1.0,
        30.0,
        1000,
        "a CPU",
    )  # the median of 10, 90 and 30; their mean is 43
    assert read_cost(make_run({0: 1.0, 72_000: 2.0}, train=TRAIN)).hours == 2.0  # the last evaluation ends later
    assert read_cost(make_run({}, train=make_log(*ROWS[:1]))).frames_per_second == 900.0
    assert (read_cost(make_run({})).hours, read_cost(make_run({})).frames_per_second) == (None, None)


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_cells_that_are_no_finite_numbers_are_passed_over(bad):
    damaged = {"frame": 2700, "wall_time_s": bad, "num_updates": bad, "frames_per_second": bad}
    assert read_cost(make_run({}, train=make_log(*ROWS, damaged))) == read_cost(make_run({}, train=TRAIN))


def test_one_line_per_run(tmp_path):
    departures = (Departure("a", 1, 2), Departure("b", 3, "absent"))
    run, again = (
        make_run({0: 1.0, 20: 2.5}, directory=tmp_path / "runs" / name, train=TRAIN, departures=departures)
        for name in "xy"
    )
    table = runs_table([run], [again], tmp_path)
    line, _ = table.rows
    assert line == ("cheetah_run DrQ mlp2 seed 1", "finished", "3 000", "1.00", "30.0", "1 000", "a CPU")
    row, other = table.records
    assert tuple(row) == FIELDS
    assert (row["folder"], row["last_evaluation"], row["last_return"]) == ("runs/x", 20, 2.5)
    assert (row["settings"], row["departures"]) == ("a=1, b=3", "a=1 (published: 2); b=3 (published: absent)")
    assert [row["counted"], other["counted"]] == ["yes", "no"]
    assert (row["mujoco"], row["gl_renderer"], row["first_frame_sha256"]) == ("3.11.0", "llvmpipe", "aaaabbbbcccc")


def test_what_an_old_record_lacks_is_unknown(tmp_path):
    run = make_run(record={"versions": "lost", "gl": None, "git_commit": None})
    (row,) = runs_table([run], [], tmp_path).records
    assert [row[name] for name in ("mujoco", "gl_renderer", "git_commit")] == ["unknown"] * 3
    assert row["last_evaluation"] is None


def test_commits_are_shortened(tmp_path):
    runs = [make_run(record={"git_commit": "a" * 40 + end}) for end in ("", "-dirty")]
    rows = runs_table(runs, [], tmp_path).records
    assert [row["git_commit"] for row in rows] == ["a" * 12, "a" * 12 + "-dirty"]


def test_runs_are_listed_by_task_variant_and_seed(tmp_path):
    identities = [("walker_run", MODERN_SN, 1), ("walker_run", MLP2, 10), ("walker_run", MLP2, 2)]
    identities.append(("cheetah_run", MODERN_SN, 3))
    runs = [make_run(task=task, variant=variant, seed=seed) for task, variant, seed in identities]
    rows = runs_table(runs, [], tmp_path).records
    assert [(row["task"], Variant(*list(row.values())[2:5]), row["seed"]) for row in rows] == identities[::-1]
