"""What a report of real folders warns of: on the terminal, in `warnings.txt` and on the page."""

from __future__ import annotations

import re

import pytest

from tests.builders import read_csv

MLP2 = ["agent=drq", "head=mlp2", "normalizer=none"]
MODERN_SN = ["agent=drq", "head=modern4", "normalizer=spectral"]


def whole(last):
    """Evaluations of a run that finished."""
    return {0: 1.0, 10_000: 2.0, 20_000: last}


def test_seeds_that_finished_diverged_and_still_run(make_run_dir, report, tmp_path, drawn):
    make_run_dir("a1", MLP2, whole(10.0))
    make_run_dir("a2", MLP2, whole(14.0), seed=2)
    make_run_dir("a3", MLP2, {0: 3.0, 10_000: 6.0}, seed=3, status="diverged", record={"frame": 12_346})
    make_run_dir("a4", MLP2, {0: 3.0, 10_000: 99.0}, seed=4, status="running")
    make_run_dir("b1", MODERN_SN, whole(50.0))
    printed = report()
    row = next(
        row
        for row in read_csv(tmp_path / "out" / "table2.csv")
        if row["task"] == "cheetah_run" and row["variant"] == "mlp2"
    )
    assert (row["mean"], row["sd"], row["n"], row["num_diverged"], row["frame"]) == ("10", "4", "3", "1", "20000")
    assert float(row["se"]) == pytest.approx(4 / 3**0.5)
    assert (row["paper_mean"], row["paper_spread"]) == ("502.8", "315.5")
    markdown = (tmp_path / "out" / "table2.md").read_text()
    assert "| 10.0 ± 2.3 (4.0, 3) †1 | 502.8 ± 315.5 | 50.0 ±" in re.sub(" +", " ", markdown)
    assert "mlp2 on cheetah_run seed 3 at frame 12 346" in markdown
    warnings = (tmp_path / "out" / "warnings.txt").read_text()
    for line in (
        "running, not finished: cheetah_run DrQ mlp2 seed 4, at frame 10 000",
        "Table 2, published setting: left out, evaluated up to frame 10 000: cheetah_run DrQ mlp2 seed 4",
        "diverged: cheetah_run DrQ mlp2 seed 3",
        "Table 2, published setting: mlp2 lacks seeds 5-10 of 1-10 on cheetah_run",
    ):
        assert line in warnings
        assert f"warning: {line}" in printed
    assert "10.0 ± 2.3 (4.0, 3) †1" in printed
    diagnostics = {"figure3_cheetah_run", "diagnostics_cheetah_run"}
    assert {"figure1", "figure2", "figure4", "aggregates_drq", "curves_drq", *diagnostics} == drawn.keys()
    assert drawn["figure4"][2]["cheetah_run"][0].frame == 100_000
    assert drawn["figure4"][3] == 20_000


def test_finished_runs_that_are_shorter_are_named_where_they_do_not_count(make_run_dir, report, tmp_path):
    long = {**whole(3.0), 50_000: 9.0}
    for seed, returns in enumerate((whole(1.0), whole(2.0), long), start=1):
        make_run_dir(f"a{seed}", MLP2, returns, seed=seed, task="dog_run")
    report()
    (row,) = read_csv(tmp_path / "out" / "all_runs.csv")
    assert (row["n"], row["mean"]) == ("1", "9")
    line = "All runs, published setting: left out, evaluated up to frame 20 000: dog_run DrQ mlp2 seeds 1-2"
    assert line in (tmp_path / "out" / "warnings.txt").read_text().splitlines()


def test_aggregates_say_what_they_left_out_where_warnings_stand(make_run_dir, report, tmp_path):
    for task in ("dog_run", "dog_walk", "dog_trot"):
        make_run_dir(task, MLP2, whole(3.0), task=task)
    make_run_dir("stray", MODERN_SN, whole(3.0), task="dog_run")
    line = "aggregates, DrQ, published setting: variants at frame 20 000 on fewer than half as many tasks as the one "
    line += "on most are left out: modern4 + SN"
    assert f"warning: {line}" in report()
    assert line in (tmp_path / "out" / "warnings.txt").read_text().splitlines()
    assert {row["num_tasks"] for row in read_csv(tmp_path / "out" / "aggregates.csv")} == {"3"}


def test_a_status_that_is_null_is_unknown(make_run_dir, report):
    run = make_run_dir("a1", MLP2, whole(3.0))
    (run / "run.json").write_text('{"status": null}')
    assert "unknown, not finished: cheetah_run DrQ mlp2 seed 1" in report()


@pytest.mark.parametrize("status", ["finished", "diverged", "running"])
def test_damaged_numbers_make_a_report_all_the_same(make_run_dir, report, tmp_path, status):
    run = make_run_dir("a1", MLP2, whole(3.0), status=status, record={"frame": "soon"})
    config = (run / "config.yaml").read_text()
    config = config.replace("eval_every_frames: 10000", "eval_every_frames: 0")
    (run / "config.yaml").write_text(config.replace("num_eval_episodes: 10", "num_eval_episodes: ten"))
    damaged = "0,nan,inf,-inf\n9,inf,nan,nan\n"
    (run / "train.csv").write_text(f"frame,num_updates,frames_per_second,wall_time_s\n{damaged}")
    report()
    assert "eval_every_frames: 0" in (run / "config.yaml").read_text()
    (row,) = read_csv(tmp_path / "out" / "runs.csv")
    assert (row["num_updates"], row["frames_per_second"]) == ("0", "")


def test_mixtures_are_never_silent(make_run_dir, report, tmp_path):
    make_run_dir("a1", MLP2, whole(10.0))
    versions = {"mujoco": "3.17.0", "dm_control": "1.0.50", "torch": "2.13.0"}
    make_run_dir("a2", MLP2, whole(10.0), seed=2, record={"versions": versions, "first_frame_sha256": "ffff"})
    make_run_dir("a2_again", MLP2, {0: 1.0, 20_000: 70.0}, seed=2, num_episodes=3)
    report()
    lines = (tmp_path / "out" / "warnings.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == [
        "mixed versions of mujoco",
        "mixed versions of dm_control",
        "cheetah_run",
    ]
    assert "seed 2 exists twice: runs/a2 with 3 evaluations counts, runs/a2_again with 2 does not" in "\n".join(lines)
    assert [(row["folder"], row["counted"]) for row in read_csv(tmp_path / "out" / "runs.csv")] == [
        ("runs/a1", "yes"),
        ("runs/a2", "yes"),
        ("runs/a2_again", "no"),
    ]
    (cell,) = read_csv(tmp_path / "out" / "all_runs.csv")
    assert (cell["n"], cell["mean"]) == ("2", "10")
