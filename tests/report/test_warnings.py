"""Every reason to distrust a mean is a line, and there is no line without a reason."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from drq_sn.report.scores import fill_cell
from drq_sn.report.types import Departure, Experiment
from drq_sn.report.warnings import format_ranges, general_warnings, left_out_warnings, missing_seeds, name_runs
from drq_sn.runs.reader import Log
from tests.builders import MLP2, MODERN_SN, make_run

WHOLE = {0: 1.0, 10: 2.0, 20: 3.0}


def lines(*runs, duplicates=()):
    return general_warnings(runs, duplicates)


def run(seed=1, evaluations=WHOLE, **more):
    return make_run(evaluations, seed=seed, **more)


def test_runs_in_order_have_no_line():
    assert (
        lines(run(1), run(2), run(3, task="walker_run", record={"first_frame_sha256": "other task, other frame"})) == []
    )


@pytest.mark.parametrize("package", ["mujoco", "dm_control", "torch"])
def test_mixed_versions(package):
    other = run(
        3, record={"versions": {"mujoco": "3.11.0", "dm_control": "1.0.44", "torch": "2.13.0"} | {package: "99"}}
    )
    (line,) = lines(run(1), run(2), other)
    assert line.startswith(f"mixed versions of {package}: ")
    assert "in cheetah_run DrQ mlp2 seeds 1-2; 99 in cheetah_run DrQ mlp2 seed 3" in line


def test_mixed_frames_count_within_one_task_and_one_world():
    other = run(2, record={"first_frame_sha256": "ffff0000"})
    (line,) = lines(run(1), other)
    assert line.startswith("cheetah_run: first frames differ")
    assert "aaaabbbbcccc in cheetah_run DrQ mlp2 seed 1; ffff0000 in cheetah_run DrQ mlp2 seed 2" in line
    small = run(2, record={"first_frame_sha256": "ffff0000"}, departures=(Departure("env.image_size", 48, 84),))
    assert lines(run(1), small) == []


def test_a_seed_that_is_there_twice():
    one, two = run(1, directory="a"), run(1, {0: 1.0}, directory="b", status="running")
    line = lines(one, two, duplicates=[(two, one)])[0]
    assert line == "cheetah_run DrQ mlp2 seed 1 exists twice: a with 3 evaluations counts, b with 1 does not"


def test_a_crash_without_a_readable_frame_is_where_the_log_ends():
    for frame in (None, "ten", math.nan):
        assert run(4, {0: 1.0, 10: 2.0}, status="diverged", record={"frame": frame}).end_frame == 10


def test_how_runs_ended():
    assert lines(run(1, status="diverged"), run(2, status="running"), run(3, {0: 1.0}, status="running"), run(4)) == [
        "running, not finished: cheetah_run DrQ mlp2 seeds 2-3, at frame 0 to 20",
        "diverged: cheetah_run DrQ mlp2 seed 1; their last evaluations are carried forward (†)",
    ]
    assert lines(run(5, {}, status="failed")) == ["failed, not finished: cheetah_run DrQ mlp2 seed 5, at frame 0"]


def test_a_damaged_log_is_named():
    damage = "runs/a/eval.csv, line 3: half a row; read up to the row before"
    assert lines(run(1), run(2, diagnostics=Log(Path("eval.csv"), damage=damage))) == [damage]


def test_what_was_not_recorded_is_no_version_of_its_own():
    assert lines(run(1), run(2, record={"first_frame_sha256": None, "versions": {}})) == []


HEADS = tuple({"head": variant.head, "normalizer": variant.normalizer} for variant in (MLP2, MODERN_SN))
EXPERIMENT = Experiment("table2", "drq", ("cheetah_run", "walker_run", "dog_run"), HEADS, (1, 2, 3), 20)


def cells_of(*runs):
    return [fill_cell(runs, task, variant, 20) for task in EXPERIMENT.tasks for variant in EXPERIMENT.choices]


def test_missing_seeds_are_named_in_cells_with_others():
    seeds = [run(1), run(3, {10: 1.0}), run(1, task="walker_run"), *(run(n, variant=MODERN_SN) for n in (1, 2, 3))]
    assert missing_seeds(EXPERIMENT, cells_of(*seeds), "T") == [
        "T: mlp2 lacks seeds 2 of 1-3 on cheetah_run",
        "T: mlp2 lacks seeds 2-3 of 1-3 on walker_run",
    ]
    assert missing_seeds(EXPERIMENT, cells_of(), "T") == []


def test_why_runs_are_left_out():
    runs = [run(1), run(2, WHOLE | {20: math.nan}), run(3, {0: 1.0, 30: 1.0}), run(4, {0: 1.0}), run(5, {})]
    assert left_out_warnings(cells_of(*runs), "T") == [
        "T: left out, evaluated up to frame 10: cheetah_run DrQ mlp2 seed 2",
        "T: left out, not evaluated at frame 20: cheetah_run DrQ mlp2 seed 3",
        "T: left out, evaluated up to frame 0: cheetah_run DrQ mlp2 seed 4",
        "T: left out, without evaluations: cheetah_run DrQ mlp2 seed 5",
    ]


def test_names_of_many_runs_stay_short():
    runs = [run(seed, task=task) for task in "abcdef" for seed in (1, 2, 3, 7)]
    assert name_runs(runs) == "; ".join(f"{task} DrQ mlp2 seeds 1-3, 7" for task in "abcd") + " and 2 more"
    assert format_ranges([5, 1, 2, 2]) == "1-2, 5"
