"""Which evaluation counts, and means, errors and deviations by hand."""

from __future__ import annotations

import math

import pytest

from drq_sn.report.scores import all_cells, common_frame, fill_cell, has_suite_return, released_curves, select_runs
from drq_sn.report.types import Departure, Experiment
from drq_sn.report.variants import name_variants
from drq_sn.report.warnings import other_settings
from tests.builders import MLP2, MODERN_SN, make_log, make_run


def test_mean_error_and_deviation_by_hand():
    runs = [make_run({0: 9.0, 10: value}, seed=seed) for seed, value in ((3, 6.0), (1, 1.0), (2, 2.0))]
    cell = fill_cell(runs, "cheetah_run", MLP2, 10)
    assert cell.scores == (1.0, 2.0, 6.0)
    assert cell.mean == 3.0
    assert cell.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert cell.error == pytest.approx(math.sqrt(7 / 3))


def test_one_seed_has_no_error_and_none_has_no_mean():
    cell = fill_cell([make_run({0: 5.0})], "cheetah_run", MLP2, 0)
    assert cell.mean == 5.0
    assert math.isnan(cell.error)
    assert math.isnan(cell.sd)
    assert math.isnan(fill_cell([], "cheetah_run", MLP2, 0).mean)


@pytest.mark.parametrize("status", ["diverged", "crashed"])
def test_a_diverged_run_keeps_its_last_score_and_others_must_be_there(status):
    diverged = make_run({0: 1.0, 10: 7.0}, seed=1, status=status)
    behind = make_run({0: 1.0, 10: 8.0}, seed=2, status="running")
    there = make_run({0: 1.0, 10: 9.0, 20: 5.0}, seed=3)
    cell = fill_cell([diverged, behind, there], "cheetah_run", MLP2, 20)
    assert cell.scores == (7.0, 5.0)
    assert cell.diverged == (diverged,)
    assert cell.left_out == (behind,)
    assert fill_cell([diverged], "cheetah_run", MLP2, 10).diverged == ()  # it diverged later


def test_the_frame_is_the_largest_that_any_run_reached_within_the_limit():
    runs = [make_run({0: 1.0, 10: 1.0}), make_run({0: 1.0, 10: 1.0, 20: 1.0, 30: 1.0})]
    assert common_frame(runs) == 30
    assert common_frame(runs, 25) == 20
    assert common_frame([]) is None
    assert common_frame([make_run({})]) is None


def test_returns_that_are_not_finite_do_not_count_and_the_last_row_of_a_frame_does():
    log = make_log(frame=[10, 0, 20, 20, 30], episode_return_mean=[7, 1, 3, 4, math.nan])
    run = make_run(eval=log, status="diverged", task="ball_in_cup_catch")
    assert list(run.evaluations.items()) == [(0, 1), (10, 7), (20, 4)]
    assert (run.returns.value_at(15), run.returns.value_at(40)) == (None, 4)  # it had not diverged at 15
    assert fill_cell([run], "cup_catch", MLP2, 20).scores == (4.0,)  # one task under two names


def test_an_experiment_takes_published_runs_or_those_of_the_only_setting():
    experiment = Experiment("table2", "drq", ("cheetah_run",), ({"head": "mlp2", "normalizer": "none"},), (1, 2), 20)
    published, slow, fast = (
        make_run(),
        *(make_run(departures=(Departure("lr", lr, 1),), directory=f"runs/{lr}") for lr in (2, 3)),
    )
    assert select_runs(experiment, [slow, published, make_run(variant=MODERN_SN)]) == [published]
    assert select_runs(experiment, name_variants([slow, fast])) == []
    assert select_runs(experiment, [slow]) == [slow]
    assert other_settings(experiment, [slow], "Table 2") == []
    assert other_settings(experiment, [slow, published], "Table 2") == [
        "Table 2: left out, at other settings than the published one: cheetah_run DrQ mlp2 seed 1"
    ]
    assert other_settings(experiment, [slow, fast], "Table 2")[0].startswith(
        "Table 2: not shown, since runs have several"
    )


@pytest.mark.parametrize(
    ("task", "target", "expected"),
    [
        ("cheetah_run", "drq_sn.envs.suite.make_env", True),
        ("reacher_easy", "drq_sn.envs.suite.make_env", True),
        ("reach_duplo", "drq_sn.envs.suite.make_env", False),
        ("CarRacing-v3", "drq_sn.envs.gymnasium.make_env", False),
    ],
)
def test_only_returns_of_the_suite_are_up_to_1000(task, target, expected):
    assert has_suite_return(make_run(task=task, options={"env._target_": target})) is expected


def test_every_task_and_variant_has_a_cell_at_its_own_last_frame():
    runs = [make_run({0: 1.0, 30: 2.0}, variant=MODERN_SN), make_run({0: 1.0, 10: 4.0}), make_run({0: 3.0}, task="a_b")]
    cells = all_cells(runs)
    assert [(c.task, c.variant.label, c.frame, c.mean) for c in cells] == [
        ("a_b", "mlp2", 0, 3.0),
        ("cheetah_run", "mlp2", 10, 4.0),
        ("cheetah_run", "modern4 + SN", 30, 2.0),
    ]


def test_released_curves_use_the_one_name():
    assert released_curves("drqv2")["ball_in_cup_catch"][25].frame == 500_000
    assert "cup_catch" not in released_curves("drqv2")
    assert released_curves("other") == {}
