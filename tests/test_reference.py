"""The papers' numbers as they were transcribed: counts, sums and single cells read off the papers by hand."""

from __future__ import annotations

import pytest

from drq_sn.reference import TABLE1, TABLE2, read_released, read_scores


def test_table_1():
    scores = read_scores(TABLE1)
    assert len(scores) == 5 * 3
    assert scores["walker_walk", "mlp2", "none"] == (477.40, 117.96)
    assert scores["cartpole_balance_sparse", "modern4", "spectral"] == (1000.0, 0.0)
    assert sum(mean for mean, _ in scores.values()) == pytest.approx(8122.73)


def test_table_2():
    scores = read_scores(TABLE2)
    assert len(scores) == 15 * 3
    assert scores["hopper_hop", "mlp2", "none"] == (196.1, 72.0)
    assert scores["reacher_hard", "dreamer", ""] == (65.7, 16.5)
    assert sum(mean for (_, head, _), (mean, _) in scores.items() if head == "modern4") == pytest.approx(11736.9)


def test_released_curves_have_every_task_at_five_frames():
    drq, drqv2 = read_released("drq"), read_released("drqv2")
    assert len(drq) == 15
    assert len(drqv2) == 24
    for points in (*drq.values(), *drqv2.values()):
        assert [frame for frame, *_ in points] == [100_000, 200_000, 300_000, 400_000, 500_000]
    assert drqv2["acrobot_swingup"][0] == (100_000, 4.78, 6.44, 10)


def test_the_released_drq_is_stronger_than_the_papers_rerun_on_all_tasks_but_one():
    rerun = {task: mean for (task, head, _), (mean, _) in read_scores(TABLE2).items() if head == "mlp2"}
    released = {task: points[-1][1] for task, points in read_released("drq").items()}
    assert [task for task in rerun if released[task] <= rerun[task]] == ["cartpole_balance_sparse"]
