"""Every reason to distrust a mean is a line, and there is no line without a reason."""

from __future__ import annotations

import math

import pytest

from drq_sn.report.scores import Setting, fill_cell
from drq_sn.report.types import Departure, Plan
from drq_sn.report.warnings import format_ranges, general_warnings, left_out_warnings, name_runs, table_warnings
from tests.builders import MLP2, MODERN_SN, RECORD, make_log, make_run

CLAIMS = {"num_train_frames": 20, "eval_every_frames": 10, "num_eval_episodes": 10}
WHOLE = {0: 1.0, 10: 2.0, 20: 3.0}
AGAIN = make_log(frame=[0, 10, 20, 10, 20], episode_return_mean=[1, 1, 3, 2, 3])


def lines(*runs, duplicates=()):
    return general_warnings([Setting(1, runs, duplicates)], runs)


def run(seed=1, evaluations=WHOLE, **more):
    return make_run(evaluations, seed=seed, options=CLAIMS, **more)


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
    assert "aaaabbbb in cheetah_run DrQ mlp2 seed 1; ffff0000 in cheetah_run DrQ mlp2 seed 2" in line
    small = run(2, record={"first_frame_sha256": "ffff0000"}, departures=(Departure("env.image_size", 48, 84),))
    assert lines(run(1), small) == []


def test_a_run_that_was_continued_in_another_world():
    before = {"versions": RECORD["versions"] | {"mujoco": "3.17.0"}, "first_frame_sha256": "ffff", "git_commit": "9"}
    resumed = [{"frame": 10, "time": "t"}, {"frame": 20, "time": "t", "before": before}]
    assert lines(run(1, record={"resumed": resumed})) == [
        "cheetah_run DrQ mlp2 seed 1: up to frame 20 made by mujoco 3.17.0, not 3.11.0, "
        "first_frame_sha256 ffff, not aaaabbbbcccc"
    ]
    harmless = [{"frame": 20, "time": "t", "before": {"git_commit": "9", "device": "another CPU"}}]
    assert lines(run(1, record={"resumed": harmless})) == []


def test_what_was_not_recorded_is_no_version_of_its_own():
    for record in ({"first_frame_sha256": None}, {"versions": {"mujoco": "3.11.0", "torch": "2.13.0"}}):
        assert lines(run(1), run(2, record={"git_commit": None, **record})) == [
            "library versions or first frame not recorded, so they may differ: cheetah_run DrQ mlp2 seed 2"
        ]


def test_a_seed_that_is_there_twice():
    one, two = run(1, directory="a"), run(1, {0: 1.0}, directory="b", status="running")
    line = lines(one, two, duplicates=[(two, one)])[0]
    assert line == "cheetah_run DrQ mlp2 seed 1 exists twice: a with 3 evaluations counts, b with 1 does not"


def test_fewer_evaluations_than_a_finished_run_claims():
    (line,) = lines(run(4, {0: 1.0, 20: 1.0}))
    assert line == "cheetah_run DrQ mlp2 seed 4: finished, but 1 evaluations are missing, at frames 10"
    odd = make_run({0: 1.0, 10: 1.0}, options=CLAIMS | {"num_train_frames": 15})
    assert lines(odd) == ["cheetah_run DrQ mlp2 seed 1: finished, but 1 evaluations are missing, at frames 15"]
    assert not any("missing" in line for line in lines(run(4, {0: 1.0}, status="running")))


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_fewer_evaluations_than_a_run_on_its_way_claims(status):
    found = lines(run(4, {20: 1.0}, status=status, train=make_log(frame=[30])))
    assert f"cheetah_run DrQ mlp2 seed 4: {status}, but 2 evaluations are missing, at frames 0, 10" in found
    at_one = run(4, {0: 1.0}, status=status, train=make_log(frame=[10]))  # whose evaluation may not have begun
    assert not any("missing" in line for line in lines(at_one))


def test_fewer_evaluations_than_a_crashed_run_claims_up_to_its_crash():
    crashed = run(4, {0: 1.0}, status="diverged", record={"frame": 11}, train=make_log(frame=[8]))
    assert "cheetah_run DrQ mlp2 seed 4: diverged, but 1 evaluations are missing, at frames 10" in lines(crashed)
    assert not any("missing" in line for line in lines(run(4, {0: 1.0}, status="diverged", record={"frame": 10})))


@pytest.mark.parametrize("value", [0, True, "ten", None, 2.5])
def test_claims_that_are_no_positive_integers_claim_nothing(value):
    for name in CLAIMS:
        assert lines(make_run(WHOLE, options=CLAIMS | {name: value})) == []


def test_a_crash_without_a_readable_frame_is_where_the_log_ends():
    for frame in (None, "ten", math.nan):
        assert run(4, {0: 1.0, 10: 2.0}, status="diverged", record={"frame": frame}).end_frame == 10


def test_a_frame_that_was_evaluated_again_with_another_return():
    assert lines(run(4, eval=AGAIN)) == [
        "cheetah_run DrQ mlp2 seed 4: evaluated more than once, the last return counts: frames 10"
    ]


def test_fewer_episodes_than_claimed():
    assert lines(run(num_episodes=7)) == [
        "cheetah_run DrQ mlp2 seed 1: 3 evaluations have fewer than 10 episodes, at least 7"
    ]


def test_returns_that_are_no_numbers():
    assert lines(run(evaluations=WHOLE | {10: math.nan})) == [
        "cheetah_run DrQ mlp2 seed 1: left out where the return is not finite: frames 10"
    ]


def test_how_runs_ended():
    found = lines(run(1, status="diverged"), run(2, status="running"), run(3, {0: 1.0}, status="running"), run(4))
    assert "diverged: cheetah_run DrQ mlp2 seed 1; their last evaluations are carried forward (†)" in found
    found_before = lines(
        run(1, status="diverged"), run(2, {}, status="diverged"), run(3, {0: math.nan}, status="diverged")
    )
    assert "diverged: cheetah_run DrQ mlp2 seed 1; their last evaluations are carried forward (†)" in found_before
    assert "diverged before any evaluation, in no mean: cheetah_run DrQ mlp2 seeds 2-3" in found_before
    assert not any(line.startswith("no evaluation yet") for line in found_before)
    assert "running, not finished: cheetah_run DrQ mlp2 seeds 2-3, at frame 0 to 20" in found
    assert lines(run(5, {}, status="failed")) == [
        "failed, not finished: cheetah_run DrQ mlp2 seed 5, at frame 0",
        "no evaluation yet: cheetah_run DrQ mlp2 seed 5",
    ]


def test_notes_are_milder_and_come_last():
    found = lines(
        run(1, record={"gl": {"renderer": "a GPU"}}), run(2, record={"git_commit": "f" * 40 + "-dirty"}, num_episodes=1)
    )
    assert [line.split(":")[0] for line in found] == ["cheetah_run DrQ mlp2 seed 2", "note", "note", "note"]
    assert "a GPU in cheetah_run DrQ mlp2 seed 1" in found[1]
    assert found[2] == "note: code with uncommitted changes: cheetah_run DrQ mlp2 seed 2"
    assert found[3] == "note: code of 2 commits: 0123456789ab (1 runs), ffffffffffff-dirty (1 runs)"


PLAN = Plan("table2", "drq", ("cheetah_run", "walker_run", "dog_run"), (MLP2, MODERN_SN), (1, 2, 3), 20)


def table_lines(*runs):
    cells = [fill_cell(runs, task, variant, 20) for task in PLAN.tasks for variant in PLAN.variants]
    return table_warnings(PLAN, cells, "T")


def test_what_a_table_lacks():
    found = table_lines(
        run(1),
        run(1, task="walker_run"),
        run(2, variant=MODERN_SN),
        run(3, variant=MODERN_SN),
        run(2, {10: 1.0}),
        run(3, {}),
    )
    assert found == [
        "T: no runs for 3 of 6 cells: walker_run modern4 + SN, dog_run mlp2, dog_run modern4 + SN",
        "T: modern4 + SN lacks seeds 1 of 1-3 on cheetah_run",
        "T: mlp2 lacks seeds 2-3 of 1-3 on walker_run",
        "T: cells average different numbers of seeds, 1 to 2",
        "T: left out, without evaluations: cheetah_run DrQ mlp2 seed 3",
        "T: left out, evaluated up to frame 10: cheetah_run DrQ mlp2 seed 2",
    ]


def test_why_runs_are_left_out():
    runs = [run(1), run(2, WHOLE | {20: math.nan}), run(3, {0: 1.0, 30: 1.0}), run(4, {0: 1.0}), run(5, {})]
    assert left_out_warnings([fill_cell(runs, "cheetah_run", MLP2, 20)], "T") == [
        "T: left out, without evaluations: cheetah_run DrQ mlp2 seed 5",
        "T: left out, evaluated up to frame 0: cheetah_run DrQ mlp2 seed 4",
        "T: left out, no finite return at frame 20: cheetah_run DrQ mlp2 seed 2",
        "T: left out, not evaluated at frame 20: cheetah_run DrQ mlp2 seed 3",
    ]


def test_a_run_that_is_not_there_yet_is_no_missing_seed():
    cells = [fill_cell([run(2, {0: 1.0}, status="running")], "cheetah_run", MLP2, 20)]
    assert table_warnings(PLAN, cells, "F", behind="curves end early") == [
        "F: mlp2 lacks seeds 1, 3 of 1-3 on cheetah_run",
        "F: curves end early, evaluated up to frame 0: cheetah_run DrQ mlp2 seed 2",
    ]


def test_an_empty_table_and_a_whole_one_lack_nothing():
    assert table_lines() == []
    whole = [
        run(seed, task=task, variant=variant) for task in PLAN.tasks for variant in PLAN.variants for seed in PLAN.seeds
    ]
    assert table_lines(*whole) == []


def test_names_of_many_runs_stay_short():
    runs = [run(seed, task=task) for task in "abcdef" for seed in (1, 2, 3, 7)]
    assert name_runs(runs) == ", ".join(f"{task} DrQ mlp2 seeds 1-3, 7" for task in "abcd") + " and 2 more"
    assert format_ranges([5, 1, 2, 2]) == "1-2, 5"
