"""The papers' numbers as they were transcribed: counts, checksums and single cells, taken from the sources."""

from __future__ import annotations

import hashlib

import pytest

from drq_sn.report.published import TABLE1, TABLE2, TABLE3, read_released, read_scores, read_table


def checksum(rows):
    """SHA-256 of the sorted rows, one line each: parts separated by spaces, numbers with two digits."""
    lines = (" ".join(part if isinstance(part, str) else f"{part:.2f}" for part in row) + "\n" for row in sorted(rows))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_table_1():
    scores = read_scores(TABLE1)
    assert len(scores) == 5 * 3
    assert scores["walker_walk", "mlp2", "none"] == (477.40, 117.96)
    assert scores["cartpole_balance_sparse", "modern4", "spectral"] == (1000.0, 0.0)
    assert (
        checksum((*key, *score) for key, score in scores.items())
        == "34a0f6d21896ddf8ebec61dde4f3e0efd1967c4a2af646ac41a8ef60b5c803d1"
    )


def test_table_2():
    scores = read_scores(TABLE2)
    assert len(scores) == 15 * 3
    assert scores["hopper_hop", "mlp2", "none"] == (196.1, 72.0)
    assert scores["reacher_hard", "dreamer", ""] == (65.7, 16.5)
    assert (
        checksum((*key, *score) for key, score in scores.items())
        == "78341e1c6fa409ed69f628ce2e244c0494c47de759b68bd9612b5ab80fbd26c7"
    )


def test_table_3():
    table = read_table(TABLE3, "head")
    assert list(table) == ["mlp2", "mlp4", "modern2", "modern4"]
    assert table["modern2"]["acting_time_ms_sd"] == 0.10
    assert (
        checksum((head, *row.values()) for head, row in table.items())
        == "ed57601e1d713ecc289083830f45e7512a37194987eedd1c66a36c26a4f5f910"
    )


def test_released_curves_have_every_task_up_to_500_000_frames():
    drq, drqv2 = read_released("drq"), read_released("drqv2")
    assert len(drq) == 15
    assert len(drqv2) == 24
    for task, points in [*drq.items(), *drqv2.items()]:
        period = 100_000 if task.startswith("humanoid") else 20_000
        frames = [frame for frame, *_ in points if frame <= 500_000]
        assert frames == list(range(0, 500_001, period))
    assert drqv2["cartpole_balance_sparse"][2] == (40_000, 1000.0, 0.0, 10)


@pytest.mark.parametrize(
    ("agent", "digest"),
    [
        ("drq", "2d34d1ef57570913e59a3d2c9a257be8fd3ca2323333714a196a4ee58e19238f"),
        ("drqv2", "c0fa4dd23a71fff59ed5f59ed77056680f10f322184a8fde56b2223eded17e9f"),
    ],
)
def test_released_numbers(agent, digest):
    assert checksum((task, *point) for task, points in read_released(agent).items() for point in points) == digest


def test_the_released_drq_is_stronger_than_the_papers_rerun_on_all_tasks_but_one():
    rerun = {task: mean for (task, head, _), (mean, _) in read_scores(TABLE2).items() if head == "mlp2"}
    released = {task: points[-1].mean for task, points in read_released("drq").items()}
    assert [task for task in rerun if released[task] <= rerun[task]] == ["cartpole_balance_sparse"]
