"""Which folders are runs, and what their files say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drq_sn.runs.reader import find_runs, read_log, read_logs, read_record
from drq_sn.validation import InvalidInput


@pytest.fixture
def make_run(tmp_path):
    """`make_run("a/seed_1", "task: t\\nseed: 1\\n", **{"eval.csv": "..."})` -> the folder."""

    def make(name, config="task: t\nseed: 1\n", **files):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file, text in {"config.yaml": config, **files}.items():
            (folder / file).write_text(text)
        return folder

    return make


def test_runs_are_found_below_folders_and_by_patterns_each_once(make_run, tmp_path):
    one, two, other = make_run("runs/t/a/seed_1"), make_run("runs/t/a/seed_2"), make_run("runs/t/b/seed_1")
    (tmp_path / "runs" / "t" / "notes.txt").write_text("")
    assert find_runs([str(tmp_path / "runs")]) == [one, two, other]
    assert find_runs([str(tmp_path / "runs" / "t" / "*")]) == [one, two, other]
    assert find_runs([str(other), str(tmp_path / "runs" / "**" / "seed_1")]) == [other, one]


def test_checkpoints_films_hidden_folders_and_older_runs_are_not_searched(make_run, tmp_path):
    run = make_run("runs/a/seed_1")
    for name in ("checkpoint", "video", ".hydra"):
        make_run(f"runs/a/seed_1/{name}")
    older, alone = make_run("runs/a/seed_1.1"), make_run("runs/b/seed_2.1")
    assert find_runs([str(tmp_path / "runs")]) == [run, alone]
    assert find_runs([str(tmp_path / "runs" / "a" / "*")]) == [run]
    assert find_runs([str(older)]) == [older]
    values = [make_run("sweep/mlp2_s1/seed_1"), make_run("sweep/mlp2_s1.5/seed_1")]  # run_suffix=_s1 and _s1.5
    assert find_runs([str(tmp_path / "sweep")]) == values


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere", "no directory"), ("no*", "no directory"), ("empty", "holds no run"), ("x" * 300, "name too long")],
)
def test_what_holds_no_run_is_named(tmp_path, name, reason):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=reason) as error:
        find_runs([str(tmp_path / name)])
    assert str(error.value).startswith(f"runs='{tmp_path / name}'")


def test_missing_and_damaged_files_are_empty(make_run):
    run = make_run("a", **{"run.json": "{", "train.csv": "frame,x\n5,\n9,\n", "eval.csv": ""})
    assert {name: list(log.frames) for name, log in read_logs(run).items()} == {
        "eval.csv": [], "train.csv": [5, 9], "diagnostics.csv": []
    }  # fmt: skip
    assert read_record(run) == read_record(make_run("b")) == {}


def test_empty_cells_and_missing_columns_are_passed_over(make_run):
    log = read_log(make_run("a", **{"x.csv": "frame,a/q.1,a/q.2,a/qq,text\n1,,,,x\n2,3,,9,y\n3,4,5,9,z\n"}) / "x.csv")
    assert list(log.rows("a/q.1")) == [(2, [3]), (3, [4])]
    assert list(log.rows("a/q.")) == [(2, [3]), (3, [4, 5])]
    assert list(log.rows("b")) == list(log.rows("b.")) == []


@pytest.mark.parametrize(
    ("text", "values", "damage"),
    [
        ("frame,a\n1,2\n", [2], ""),
        ("frame,a\n1,2\n2,", [2], "line 3: half a row; read up to the row before"),
        ("frame,a\n1,2\n2,3\0\0\0", [2], "line 3: NUL bytes; read up to the row before"),
        ("frame,a\n1,2\n\0\0\n3,4\n", [2], "line 3: NUL bytes"),
        ("\0\0\0\0\n1,2\n", [], "line 1: NUL bytes"),
        ("fra", [], "line 1: half a row"),
    ],
)
def test_a_damaged_log_is_read_up_to_its_last_whole_row(make_run, text, values, damage):
    path = make_run("a", **{"x.csv": text}) / "x.csv"
    log = read_log(path)
    assert list(log.series("a").values()) == values
    assert log.damage.startswith(f"{path}, {damage}" if damage else "")
    assert bool(log.damage) == bool(damage)


def test_a_symbolic_link_is_not_followed(make_run):
    run = make_run("a", **{"x.csv": "frame,a\n1,2\n"})
    (run / "eval.csv").symlink_to(run / "x.csv")
    log = read_log(run / "eval.csv")
    assert (list(log.frames), log.damage) == ([], f"{run / 'eval.csv'} is a symbolic link, which is not followed")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_refused(tmp_path, make):
    make(tmp_path / "eval.csv")
    with pytest.raises(InvalidInput, match=r"eval\.csv: not readable"):
        read_log(tmp_path / "eval.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,a\n1,2\n2,abc\n", "line 3: 'abc' is not a number"),
        ("frame,a\n1,2,3\n", "Expected 2 fields in line 2, saw 3"),
        ("step,a\n1,2\n", "line 1: no column 'frame'"),
        ("frame,a,a\n1,2,3\n", "line 1: columns must have different names"),
        ("frame,a\n,2\n", "line 2: frame must be a number >= 0, got ''"),
        ("frame,a\nnan,2\n", "line 2: frame must be a number >= 0, got 'nan'"),
        ("frame,a\n-1,2\n", "line 2: frame must be a number >= 0, got '-1'"),
        ('frame,a\n1,"2\n', "not readable as CSV"),
        ("\nframe,a\n1,2\n", "not readable as CSV"),
        (b"frame,a\n1,2\n\xff,3\n", "line 3: not readable as text"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidInput) as error:
        list(read_log(path).rows("a"))
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
