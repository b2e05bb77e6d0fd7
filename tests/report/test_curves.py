"""Means, errors, bins and groups against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from drq_sn.report.curves import FIGURE3, INSTRUMENTS, Quantity, average, go_on, group_runs, points, shorten, table_rows
from drq_sn.runs.reader import Log, Run
from drq_sn.runs.status import Status

LOSS, RETURN, ACTOR, _ = FIGURE3


def log_of(**columns):
    """Columns -> a log; `frame` is one of them, names with other signs come as `**{...}`."""
    rows = [dict(zip(columns, map(str, cells), strict=True)) for cells in zip(*columns.values(), strict=True)]
    return Log(Path("x.csv"), [(i, float(row["frame"]), row) for i, row in enumerate(rows, 2)])


def run_of(folder="runs/t/a/seed_1", task="t", seed=1, status="finished", **files):
    return Run(Path(folder), task, seed, Status(status), {f"{name}.csv": log for name, log in files.items()})


def test_mean_and_standard_error():
    curve = average([{0: 1.0, 10: 2.0}, {0: 3.0, 10: 8.0, 20: 5.0}, {0: 5.0}])
    assert list(curve.frames) == [0, 10, 20]
    np.testing.assert_allclose(curve.mean, [3, 5, 5])
    np.testing.assert_allclose(curve.high - curve.mean, [2 / math.sqrt(3), 3, np.nan])  # sd of (1, 3, 5) is 2
    np.testing.assert_allclose(curve.mean - curve.low, [2 / math.sqrt(3), 3, np.nan])


def test_curves_count_seeds_and_a_crashed_run_goes_on():
    assert list(average([{0: 1.0, 10: 2.0}, {0: 3.0}], gaps=[20]).num_seeds) == [2, 1, 0]
    assert go_on({0: 1.0, 10: 2.0}, [0, 5, 20]) == {0: 1.0, 10: 2.0, 20: 2.0}
    assert go_on({}, [5]) == {}


def test_geometric_mean_and_its_band():
    curve = average([{0: 1.0}, {0: 100.0}], log=True)
    np.testing.assert_allclose(curve.mean, [10])
    np.testing.assert_allclose([curve.low, curve.high], [[1], [100]])  # the error of (0, 2) is 1 decade


def test_gaps_appear_without_a_value():
    curve = average([{0: 1.0}, {20: 1.0}], gaps=[10, 20])
    assert list(curve.frames) == [0, 10, 20]
    np.testing.assert_array_equal(np.isnan(curve.mean), [False, True, False])
    assert average([{}]).mean.shape == (0,)


def test_episodes_are_binned_by_the_frame_the_bin_ends_with():
    run = run_of(train=log_of(frame=[2, 1000, 1001, 3000], **{"grad_norm/actor": [2, 8, 5, ""]}))
    assert points(run, ACTOR).values == pytest.approx({1000: 4, 2000: 5})  # geometric: the axis is logarithmic
    linear = ACTOR._replace(log=False)
    assert points(run, linear).values == {1000: 5, 2000: 5}


def test_evaluations_are_not_binned():
    run = run_of(eval=log_of(frame=[0, 500, 700], episode_return_mean=[1, -2, 3]))
    assert points(run, RETURN).values == {0: 1, 500: -2, 700: 3}


def test_the_last_of_several_rows_with_one_frame_counts_where_there_are_no_bins():
    run = run_of(eval=log_of(frame=[0, 10, 10], episode_return_mean=[1, 2, 6]))
    assert points(run, RETURN).values == {0: 1, 10: 6}


def test_what_a_log_axis_cannot_show_is_left_out_and_counted():
    run = run_of(diagnostics=log_of(frame=[0, 1, 2, 3, 4], critic_loss=[0, -1, "nan", "inf", 2]))
    values, gaps, left_out = points(run, LOSS)
    assert values == pytest.approx({4: 2})
    assert gaps == {0, 1, 2, 3}
    assert left_out == {"zero or negative on a log axis": 2, "not finite": 2}


def test_layers_are_combined_and_targets_do_not_count():
    columns = {"sigma/critic.q1.a": [2, 3], "sigma/critic.q2.a": [5, ""], "sigma/critic_target.q1.a": [9, 9],
               "sigma/actor.head.a": [9, 9], "effective_lr/critic.q1.a": [1, 4], "effective_lr/critic.q2.a": [3, ""]}  # fmt: skip
    run = run_of(diagnostics=log_of(frame=[0, 10], **columns))
    by_name = {quantity.name: points(run, quantity).values for quantity in INSTRUMENTS}
    assert by_name["sigma_max/critic"] == pytest.approx({0: 5, 10: 3})
    assert by_name["effective_lr/critic"] == pytest.approx({0: 2, 10: 4})
    assert by_name["smoothness"] == {}


def test_a_run_without_files_has_no_points():
    assert all(points(run_of(), quantity).values == {} for quantity in (*FIGURE3, *INSTRUMENTS))


def test_seeds_form_groups_in_order():
    runs = [run_of("r/t/b/seed_10", seed=10), run_of("r/t/a/seed_1"), run_of("r/t/b/seed_2", seed=2), run_of("r/mine")]
    groups = group_runs(runs)
    assert {label: [run.seed for run in members] for label, members in groups.items()} == {
        "t b": [2, 10], "t a": [1], "mine": [1]
    }  # fmt: skip


def test_the_same_seed_twice_makes_two_groups():
    assert list(group_runs([run_of("old/a/seed_1"), run_of("new/a/seed_1")])) == ["t a in old", "t a in new"]
    assert list(group_runs([run_of("x/0", task="t"), run_of("y/0", task="u", seed=2)])) == ["0 in x", "0 in y"]


@pytest.mark.parametrize(
    ("labels", "shared", "short"),
    [
        (["t_a drq_mlp2_none", "t_a drqv2_mlp2_spectral"], "t_a", ["drq_mlp2_none", "drqv2_mlp2_spectral"]),
        (["t drq_none_laptop", "t drq_spectral_laptop"], "t drq, laptop", ["none", "spectral"]),
        (["t drq_mlp2", "u drq_mlp2"], "drq_mlp2", ["t", "u"]),
        (["t drq", "t drq_long"], "t", ["drq", "drq_long"]),
        (["a_b_a", "a_a"], "a", ["b_a", "a"]),
        (["x", "y"], "", ["x", "y"]),
        (["t drq"], "t drq", ["t drq"]),
    ],
)
def test_what_labels_share_is_dropped(labels, shared, short):
    assert shorten(labels) == (shared, short)
    assert len(set(short)) == len(labels)


def test_the_table():
    def seed(number, last, norm, rank, status="finished"):
        train = log_of(frame=[1000], **{"grad_norm/actor": [1], "grad_norm_max/actor": [norm], "grad_norm/critic": [7]})
        evaluations = log_of(frame=[0, 500 * number], episode_return_mean=[0, last])
        ranks = log_of(frame=[0, 500], **{"effective_rank/critic": [50, rank]})
        return run_of(seed=number, status=status, train=train, eval=evaluations, diagnostics=ranks)

    (row,) = table_rows({"a": [seed(1, 10, 4, 20), seed(3, 20, "inf", 30, "crashed")]})
    assert (row["seeds"], row["status"], row["frames"]) == (2, {"finished": 1, "diverged": 1}, [1000, 1500])
    assert row["return"] == pytest.approx((15, 5))
    assert (row["largest_grad_norm/actor"], row["largest_grad_norm/critic"]) == (math.inf, 7)
    assert row["effective_rank/critic"] == 25
    assert math.isnan(row["effective_rank/actor"])


def test_quantities_have_names_of_their_own():
    names = [quantity.name for quantity in (*FIGURE3, *INSTRUMENTS)]
    assert len(set(names)) == len(names) == 13
    assert all(isinstance(quantity, Quantity) for quantity in INSTRUMENTS)
