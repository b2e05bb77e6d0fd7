"""Which evaluation counts, and means, errors and deviations by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from drq_sn.report.scores import (
    common_frame,
    group_by_setting,
    in_order,
    make_cell,
    once_per_seed,
    own_cells,
    released_curves,
    score_run,
)
from drq_sn.report.types import Variant
from drq_sn.runs.reader import EVAL
from tests.report.synthetic_runs import MLP2, MODERN_SN, log, scored


def test_mean_error_and_deviation_by_hand():
    runs = [scored({0: 9.0, 10: value}, seed=seed) for seed, value in ((3, 6.0), (1, 1.0), (2, 2.0))]
    cell = make_cell(runs, "cheetah_run", MLP2, 10)
    assert cell.scores == (1.0, 2.0, 6.0)
    assert cell.mean == 3.0
    assert cell.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert cell.error == pytest.approx(math.sqrt(7 / 3))


def test_one_seed_has_no_error_and_none_has_no_mean():
    cell = make_cell([scored({0: 5.0})], "cheetah_run", MLP2, 0)
    assert cell.mean == 5.0
    assert math.isnan(cell.error)
    assert math.isnan(cell.sd)
    assert math.isnan(make_cell([], "cheetah_run", MLP2, 0).mean)


def test_a_crashed_run_keeps_its_last_score_and_others_must_be_there():
    crashed = scored({0: 1.0, 10: 7.0}, seed=1, status="crashed")
    behind = scored({0: 1.0, 10: 8.0}, seed=2, status="running")
    there = scored({0: 1.0, 10: 9.0, 20: 5.0}, seed=3)
    cell = make_cell([crashed, behind, there], "cheetah_run", MLP2, 20)
    assert cell.scores == (7.0, 5.0)
    assert cell.crashed == (crashed,)
    assert cell.left_out == (behind,)
    assert make_cell([crashed], "cheetah_run", MLP2, 10).crashed == ()  # it crashed later


def test_the_frame_is_the_largest_that_any_run_reached_within_the_limit():
    runs = [scored({0: 1.0, 10: 1.0}), scored({0: 1.0, 10: 1.0, 20: 1.0, 30: 1.0})]
    assert common_frame(runs) == 30
    assert common_frame(runs, 25) == 20
    assert common_frame([]) is None
    assert common_frame([scored({})]) is None


def test_returns_that_are_no_numbers_do_not_count_and_a_task_has_one_name():
    run = scored({0: 1.0, 10: math.nan, 20: 3.0}, task="cup_catch").run
    read = score_run(run, MLP2, [], {}, {})
    assert read.evaluations == {0.0: 1.0, 20.0: 3.0}
    assert read.run.task == "ball_in_cup_catch"
    assert (
        make_cell([read], "cup_catch", MLP2, 20).scores
        == make_cell([read], "ball_in_cup_catch", MLP2, 20).scores
        == (3.0,)
    )
    assert score_run(scored({}).run, MLP2, [], {}, {}).evaluations == {}


def test_the_last_evaluation_of_a_crashed_run_is_that_of_the_largest_frame_whatever_the_order_of_the_file():
    rows = (
        {"frame": frame, "episode_return_mean": value} for frame, value in ((10, 7.0), (0, 1.0), (20, 3.0), (20, 4.0))
    )
    run = dataclasses.replace(scored({}, status="crashed").run, logs={EVAL: log(EVAL, *rows)})
    read = score_run(run, MLP2, [], {}, {})
    assert list(read.evaluations.items()) == [(0, 1), (10, 7), (20, 4)]
    assert (read.score(15), read.score(30)) == (7, 4)


def test_runs_with_other_settings_are_another_group_whatever_is_published_for_their_task():
    published, small = scored({}), ("a=1 (published: 2)", "b=null (published: 3)")
    one = scored({}, departures=small)
    other_task = scored({}, task="walker_run", departures=("a=1 (published: 5)", "b=null (published: 3)"))
    first, second, third = group_by_setting(
        [one, published, other_task, scored({}, departures=("a=2 (published: 3)",))]
    )
    assert (first.name, first.suffix, first.departures, first.runs) == ("published setting", "", (), (published,))
    assert (second.name, second.suffix, second.runs) == ("settings 2", "_settings2", (one, other_task))
    assert second.departures == ("a=1 (published: 2 or 5)", "b=null (published: 3)")
    assert third.departures == ("a=2 (published: 3)",)


def test_the_published_setting_is_there_without_runs():
    assert [len(setting.runs) for setting in group_by_setting([])] == [0]


def test_a_seed_counts_once_from_the_folder_with_most_evaluations():
    short, long = scored({0: 1.0}, folder="a"), scored({0: 2.0, 10: 3.0}, folder="b")
    again, other = scored({0: 4.0, 10: 5.0}, folder="c"), scored({0: 1.0}, departures=("x=1",))
    counted, dropped = once_per_seed([short, long, again, other])
    assert counted == [long, other]
    assert dropped == [(short, long), (again, long)]


def test_every_task_and_variant_has_a_cell_at_its_own_last_frame():
    runs = [scored({0: 1.0, 30: 2.0}, variant=MODERN_SN), scored({0: 1.0, 10: 4.0}), scored({0: 3.0}, task="a_b")]
    cells = own_cells(runs)
    assert [(c.task, c.variant.label, c.frame, c.mean) for c in cells] == [
        ("a_b", "mlp2", 0, 3.0),
        ("cheetah_run", "mlp2", 10, 4.0),
        ("cheetah_run", "modern4 + SN", 30, 2.0),
    ]


def test_variants_come_in_the_papers_order_then_by_name():
    names = [("simba", "none"), ("modern4", "nap"), ("modern4", "spectral"), ("mlp2", "none"), ("modern4", "none")]
    ordered = in_order([Variant("drq", *name) for name in names] * 2)
    assert [v.label for v in ordered] == ["mlp2", "modern4", "modern4 + SN", "modern4 + nap", "simba"]


def test_released_curves_use_the_one_name():
    assert released_curves("drqv2")["ball_in_cup_catch"][4].frame == 500_000
    assert "cup_catch" not in released_curves("drqv2")
    assert released_curves("other") == {}


def test_logs_of_these_tests_read_like_files():
    assert list(log("x", {"frame": 2, "a": 1.5}).values("a")) == [(2.0, [1.5])]
