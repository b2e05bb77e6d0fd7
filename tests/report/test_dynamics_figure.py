"""Figure 3 and diagnostics: quantities of runs against numbers by hand."""

from __future__ import annotations

import pytest

from drq_sn.report.dynamics_figure import (
    FIELDS,
    FIGURE3,
    FURTHER,
    QUANTITIES,
    RETURNS,
    diagnostics_rows,
    figure3,
    further_diagnostics,
    group_runs,
    read_series,
)
from drq_sn.report.types import Departure, Variant
from drq_sn.report.variants import name_variants
from tests.builders import MODERN_SN, make_log, make_run, svg_texts

LOSS, _, ACTOR, _ = FIGURE3
SMALL = [Departure("env.image_size", 48, 84)]


def seed(number, status="finished"):
    train = make_log(frame=[1000, 2000, 3000], **{"grad_norm/actor": ["", 0, 3], "grad_norm/critic": ["", 1, 7]})
    ranks = make_log(frame=[0, 500], **{"effective_rank/critic": [50, 10 * number], "overestimation": [-1, 2]})
    return make_run({0: 1.0, 3000: 10.0}, seed=number, status=status, train=train, diagnostics=ranks)


def groups_of(*runs):
    (groups,) = group_runs(runs).values()
    return groups


def test_episodes_are_binned_by_the_frame_the_bin_ends_with():
    run = make_run(train=make_log(frame=[2, 1000, 1001, 3000], **{"grad_norm/actor": [2, 8, 5, ""]}))
    assert read_series(run, ACTOR).values == pytest.approx({1000: 4, 2000: 5})  # geometric: the axis is logarithmic
    assert read_series(run, ACTOR._replace(log=False)).values == {1000: 5, 2000: 5}


def test_evaluations_are_not_binned_and_the_last_row_of_a_frame_counts():
    run = make_run(eval=make_log(frame=[0, 500, 500], episode_return_mean=[1, -2, 3]))
    assert read_series(run, RETURNS).values == {0: 1, 500: 3}


def test_what_an_axis_cannot_show_is_told_apart():
    log = make_log(frame=[0, 1, 2, 3, 4], critic_loss=[0, -1, "nan", "inf", 2])
    series = read_series(make_run(diagnostics=log), LOSS)
    assert series.values == pytest.approx({4: 2})
    assert (series.below, series.missing) == ({0, 1}, {2, 3})
    assert read_series(make_run(diagnostics=log), LOSS._replace(log=False)).below == set()


def test_a_bin_with_a_mean_and_a_zero_is_marked_too():
    log = make_log(frame=[250, 500, 750, 1000], **{"grad_norm/actor": [0, 0, 0, 5]})
    series = read_series(make_run(train=log), ACTOR)
    assert (series.values, series.below) == (pytest.approx({1000: 5}), {1000})


def test_layers_are_combined_and_targets_do_not_count():
    columns = {
        "sigma/critic.q1.a": [2, 3],
        "sigma/critic.q2.a": [5, ""],
        "sigma/critic_target.q1.a": [9, 9],
        "sigma/actor.head.a": [9, 9],
        "effective_lr/critic.q1.a": [1, 4],
        "effective_lr/critic.q2.a": [3, ""],
    }
    run = make_run(diagnostics=make_log(frame=[0, 10], **columns))
    by_name = {quantity.name: read_series(run, quantity).values for quantity in FURTHER}
    assert by_name["sigma_max/critic"] == pytest.approx({0: 5, 10: 3})
    assert by_name["effective_lr/critic"] == pytest.approx({0: 2, 10: 4})
    assert by_name["smoothness"] == {}


def test_a_layer_that_is_not_finite_shows_in_the_largest_norm():
    columns = {"sigma/critic.q1.a": [5], "sigma/critic.q2.a": ["nan"]}
    for names in (list(columns), list(columns)[::-1]):
        run = make_run(diagnostics=make_log(frame=[10], **{name: columns[name] for name in names}))
        (sigma,) = (quantity for quantity in FURTHER if quantity.name == "sigma_max/critic")
        assert read_series(run, sigma).missing == {10}


def test_a_q_network_is_a_critic():
    train = make_log(frame=[1000], **{"grad_norm/q_network": [3]})
    layers = make_log(frame=[0], **{"sigma/q_network.hidden": [2], "sigma/q_network_target.hidden": [9]})
    run = make_run({0: 0.5, 1000: 6.0}, "minatar_breakout", Variant("dqn", "none", "spectral"),
                   train=train, diagnostics=layers)  # fmt: skip
    by_name = {quantity.name: read_series(run, quantity).values for quantity in QUANTITIES}
    assert by_name["grad_norm/critic"] == pytest.approx({1000: 3})
    assert by_name["sigma_max/critic"] == pytest.approx({0: 2})
    texts = svg_texts(figure3("figure3", run.task, groups_of(run)).svg)
    assert {"evaluation return", "critic gradient norm"} <= set(texts)
    assert not {"actor gradient norm", "no data", "1000"} & set(texts)  # no axis of 0 to 1000


def test_returns_of_diverged_runs_are_carried_forward_and_other_quantities_are_not():
    run = make_run({0: 1.0, 10: 5.0}, status="diverged", record={"frame": 14})
    assert read_series(run, RETURNS).value_at(20) == run.returns.value_at(20) == 5
    assert read_series(run, RETURNS).diverged_at == 14
    assert not read_series(run, LOSS).carried


def test_every_variant_of_a_task_is_a_group():
    small = make_run({0: 1.0}, departures=SMALL)
    walker = make_run({0: 1.0}, "walker_run", MODERN_SN)
    by_task = group_runs(name_variants([seed(1), seed(2), small, walker]))
    assert {task: {g.label: len(g.runs) for g in groups} for task, groups in by_task.items()} == {
        "cheetah_run": {"mlp2": 2, "mlp2, image_size=48": 1},
        "walker_run": {"modern4 + SN": 1},
    }


def test_the_csv_holds_what_is_drawn():
    rows = diagnostics_rows(groups_of(seed(1), seed(2, status="diverged")))
    assert all(tuple(row) == FIELDS for row in rows)
    assert [(r["seed"], r["frame"], r["value"]) for r in rows if r["quantity"] == "grad_norm/actor"] == [
        (1, 3000, pytest.approx(3)), (2, 3000, pytest.approx(3))
    ]  # fmt: skip
    assert {row["quantity"] for row in rows} == {
        "episode_return", "grad_norm/actor", "grad_norm/critic", "overestimation", "effective_rank/critic"
    }  # fmt: skip


def test_figures_have_panels_of_their_quantities():
    groups = groups_of(seed(1), seed(2, status="diverged"))
    texts = svg_texts(figure3("figure3", "cheetah_run", groups).svg)
    assert {quantity.title for quantity in FIGURE3[1:]} <= set(texts)
    assert LOSS.title not in texts  # no run has it
    assert "mlp2 (2 seeds, 1 diverged)" in texts
    (figure,) = further_diagnostics("d", "cheetah_run", groups)
    assert figure.alt == "Diagnostics of the runs on cheetah_run, over frames: overestimation; effective rank, critic."
    assert further_diagnostics("d", "cheetah_run", groups_of(make_run({0: 1.0}))) == []
    assert figure3("empty", "cheetah_run", groups_of(make_run())).pdf


def test_quantities_have_names_of_their_own():
    assert len({quantity.name for quantity in QUANTITIES}) == len(QUANTITIES) == 13
