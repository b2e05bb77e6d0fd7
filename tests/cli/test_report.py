"""`make report`, from run folders to tables, figures and one page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from drq_sn.cli.report import _choices, main, run_report
from drq_sn.report.build import Choices
from drq_sn.validation import InvalidInput
from tests.cli.conftest import MLP2, MODERN_SN, QUICK, rows, whole

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "results"


def report(folder, *words):
    command = [sys.executable, "-m", "drq_sn.cli.report", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_another_frame_and_figure_3(make_run, go, tmp_path, drawn):
    make_run("a1", MLP2, whole(10.0), task="cartpole_swingup")
    go(Choices(frame=10_000, num_bootstrap=20))
    row = next(row for row in rows(tmp_path / "out" / "table2.csv") if row["n"] == "1")
    assert (row["task"], row["mean"], row["frame"], row["se"]) == ("cartpole_swingup", "2", "10000", "")
    assert "figure3" in drawn
    assert (tmp_path / "out" / "figure3.svg").is_file()


def test_runs_with_other_settings_have_tables_of_their_own(make_run, go, tmp_path, drawn):
    make_run("a1", MLP2, whole(10.0))
    make_run("small", [*MLP2, "env.image_size=48"], whole(30.0))
    make_run("small2", [*MLP2, "env.image_size=48"], whole(32.0), seed=2)
    printed = go()
    means = {name: [row["mean"] for row in rows(tmp_path / "out" / name) if row["n"] != "0" and row["mean"]]
             for name in ("table2.csv", "table2_settings2.csv", "table1.csv")}  # fmt: skip
    assert means == {"table2.csv": ["10"], "table2_settings2.csv": ["31"], "table1.csv": []}
    page = (tmp_path / "out" / "index.html").read_text().replace("<wbr>", "")
    assert page.count("Settings 2 differ from the published ones: env.image_size=48 (published: 84).") == 1
    assert page.count("What numbered settings are is said at the top of the page.") == 2  # Table 2 and all runs
    assert "env.image_size=48 (published: 84)" in (tmp_path / "out" / "all_runs.tex").read_text()
    assert "env.image\\_size=48 (published: 84)" in (tmp_path / "out" / "table2_settings2.md").read_text()
    assert "first frames differ" not in printed  # another image size is another world
    assert {"figure1", "figure1_settings2"} <= drawn.keys()
    assert [run.departures for run in drawn["figure1_settings2"][0]] == [("env.image_size=48 (published: 84)",)] * 2


def test_runs_are_listed_by_task_variant_and_seed(make_run, go, tmp_path):
    for name, words, seed, task in (
        ("a", MODERN_SN, 1, "walker_run"),
        ("b", MLP2, 10, "walker_run"),
        ("c", MLP2, 2, "walker_run"),
        ("d", MODERN_SN, 3, "cheetah_run"),
    ):
        make_run(name, words, whole(1.0), seed=seed, task=task)
    go()
    assert [row["folder"] for row in rows(tmp_path / "out" / "runs.csv")] == ["runs/d", "runs/c", "runs/b", "runs/a"]
    costs = (tmp_path / "out" / "index.html").read_text().split('id="s-cost-per-run"')[1].replace("<wbr>", "")
    places = [costs.index(f"{name} seed {seed}") for name, seed in (("modern4 + SN", 3), ("mlp2", 2), ("mlp2", 10))]
    assert places == sorted(places)


def test_runs_that_no_table_asks_for_are_reported_all_the_same(make_run, go, tmp_path, drawn):
    make_run("x", ["agent=drqv2", "head=simba", "normalizer=nap"], whole(5.0), task="dog_run")
    (tmp_path / "runs" / "bare").mkdir()
    (tmp_path / "runs" / "bare" / "config.yaml").write_text("task: t\nseed: 1\n")
    printed = go()
    assert "dog_run" in printed
    assert "Table" not in printed
    assert [(row["task"], row["variant"], row["mean"]) for row in rows(tmp_path / "out" / "all_runs.csv")] == [
        ("dog_run", "simba + nap", "5"),
        ("t", "other + other", ""),
    ]
    assert drawn.keys() == {"curves_drqv2", "aggregates_drqv2"}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "make figure1" in page
    assert "966.67" in page
    assert "no evaluation yet: t other other + other seed 1" in printed


def test_a_cup_is_a_cup_under_either_name(make_run, go, tmp_path):
    v2 = ["agent=drqv2", "head=mlp2", "normalizer=none"]
    make_run("a", v2, whole(10.0), task="cup_catch")
    make_run("b", v2, whole(20.0), seed=2, task="ball_in_cup_catch")
    go()
    (row,) = [row for row in rows(tmp_path / "out" / "table1.csv") if row["n"] != "0"]
    assert (row["task"], row["mean"], row["n"]) == ("cup_catch", "15", "2")


def test_a_former_report_is_overwritten_and_other_files_stay(make_run, go, tmp_path):
    make_run("a1", MLP2, whole(10.0))
    small = make_run("small", [*MLP2, "env.image_size=48"], whole(30.0))
    go()
    own = ("notes.txt", "table2_final.tex", "figure1_annotated.png", "aggregates_notes.md", "table2_settings3.md")
    for name in own:
        (tmp_path / "out" / name).write_text("mine")
    (tmp_path / "elsewhere.md").write_text("mine")
    with (tmp_path / "out" / "report_files.txt").open("a") as file:
        file.write("../elsewhere.md\n")
    assert "table2_settings2.md" in names(tmp_path / "out")
    before = (tmp_path / "out" / "table2.csv").read_bytes()
    (small / "config.yaml").unlink()
    go()
    assert (tmp_path / "out" / "table2.csv").read_bytes() == before
    assert [(tmp_path / "out" / name).read_text() for name in (*own, "../elsewhere.md")] == ["mine"] * 6
    assert not [name for name in names(tmp_path / "out") if "settings2" in name]
    listed = (tmp_path / "out" / "report_files.txt").read_text().splitlines()[1:]
    assert sorted([*listed, "report_files.txt", *own]) == names(tmp_path / "out")


def test_a_users_own_list_takes_nothing_away(make_run, go, tmp_path):
    make_run("a1", MLP2, whole(10.0))
    go()
    (tmp_path / "out" / "mine.md").write_text("mine")
    (tmp_path / "out" / "report_files.txt").write_text("mine.md\n")
    go()
    assert (tmp_path / "out" / "mine.md").read_text() == "mine"


def test_the_same_runs_are_the_same_report(make_run, go, tmp_path):
    for seed in (1, 2, 3):
        make_run(f"a{seed}", MLP2, whole(10.0 * seed), seed=seed)
    go()
    before = {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")}
    go()
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")} == before


def test_what_a_user_has_is_never_overwritten(make_run, tmp_path):
    run = make_run("a1", MLP2, whole(10.0))
    for name in ("runs.csv", "thesis.txt"):
        out = tmp_path / name.split(".")[1]
        out.mkdir()
        (out / name).write_text("mine")
        with pytest.raises(InvalidInput, match="holds files but no report"):
            run_report([str(run)], out, QUICK, [])
        assert [path.read_text() for path in out.iterdir()] == ["mine"]
    with pytest.raises(InvalidInput, match="is a file"):
        run_report([str(run)], run / "eval.csv", QUICK, [])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("eval.csv", "frame,episode_return_mean\n0,five\n", r"eval\.csv, line 2: 'five' is not a number"),
        ("config.yaml", "task: [", r"config\.yaml: not readable as YAML"),
        ("config.yaml", "task: t\nseed: 1\nlr: ${x}\n", r"config\.yaml: Interpolation key 'x' not found"),
    ],
)
def test_a_damaged_run_leaves_nothing(make_run, tmp_path, file, content, message):
    run = make_run("a1", MLP2, whole(10.0))
    (run / file).write_text(content)
    with pytest.raises(InvalidInput, match=message):
        run_report([str(run)], tmp_path / "out", QUICK, [])
    assert names(tmp_path) == ["runs"]


def test_the_published_runs_make_a_page_that_needs_no_network(tmp_path):
    runs = f"runs=['{RESULTS}/laptop','{RESULTS}/normalizers/runs/*_spectral_laptop']"
    result = report(tmp_path, runs, "num_bootstrap=20", f"profiles=['{RESULTS}/profile']")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert names(tmp_path) == ["report"]
    out = tmp_path / "report"
    assert {"index.html", "runs.csv", "warnings.txt", "table1.md", "table2.tex", "table3.csv"} <= set(names(out))
    page = (out / "index.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert "243.94" in page  # Table 3, measured
    found = {(row["variant"], row["settings"]): row for row in rows(out / "all_runs.csv")}
    laptop, study = found["modern4 + SN", "settings 2"], found["modern4 + SN", "settings 3"]
    assert float(laptop["mean"]) == pytest.approx((950.1705968605268 + 968.2926976870016) / 2)  # as in results/laptop
    assert (laptop["n"], laptop["frame"]) == ("2", "40000")
    assert (study["n"], study["frame"]) == ("2", "16000")
    assert float(found["mlp2", "settings 2"]["mean"]) == pytest.approx(135.96, abs=0.01)
    assert next(row["folder"] for row in rows(out / "runs.csv")) == os.path.relpath(
        RESULTS / "laptop/drqv2_mlp2_none/seed_1", tmp_path
    )


def test_a_wrong_folder_is_one_line_and_leaves_nothing(tmp_path):
    result = report(tmp_path, "runs=nowhere")
    assert result.returncode == 2
    assert result.stderr.startswith("error: runs='nowhere': matches no folder; give a run directory")
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "message"),
    [("-m", "--multirun: a report puts all of runs=[...] side by side"), ("rnus=[a]", "did you mean 'runs'")],
)
def test_a_wrong_command_line_is_one_line(monkeypatch, capsys, word, message):
    monkeypatch.setattr(sys, "argv", ["report", word])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_choices_are_checked():
    good = {"frame": None, "num_bootstrap": 5, "seed": 0}
    assert _choices(OmegaConf.create(good)) == Choices(None, 5, 0)
    for bad in ({"frame": "end"}, {"frame": -1}, {"num_bootstrap": 0}, {"seed": None}):
        (name,) = bad
        with pytest.raises(InvalidInput, match=f"{name} must be"):
            _choices(OmegaConf.create(good | bad))
