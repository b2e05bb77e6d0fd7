"""`drq-sn report`, from run directories to tables, figures and one page."""

from __future__ import annotations

import importlib.util
import os
import re

import pytest
from omegaconf import OmegaConf

from drq_sn.cli.report import main, parse_choices, parse_patterns, run_report
from drq_sn.report.build import Choices
from drq_sn.validation import InvalidInput
from tests.builders import ROOT, invoke, read_csv

pytestmark = pytest.mark.process  # writes many reports

RESULTS = ROOT / "results"
QUICK = Choices(num_bootstrap=20)
MLP2 = ["agent=drq", "head=mlp2", "normalizer=none"]
MODERN_SN = ["agent=drq", "head=modern4", "normalizer=spectral"]


def whole(last):
    """Evaluations of a run that finished."""
    return {0: 1.0, 10_000: 2.0, 20_000: last}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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
    assert "| 10.0 ± 2.3 (4.0, 3) †1 | 502.8 ± 315.5 | 50.0 (1 seed) |" in re.sub(" +", " ", markdown)
    assert "mlp2 on cheetah_run seed 3 at frame 12 346" in markdown
    warnings = (tmp_path / "out" / "warnings.txt").read_text()
    for line in (
        "running, not finished: cheetah_run DrQ mlp2 seed 4, at frame 10 000",
        "Table 2: left out, evaluated up to frame 10 000: cheetah_run DrQ mlp2 seed 4",
        "diverged: cheetah_run DrQ mlp2 seed 3",
        "Table 2: mlp2 lacks seeds 5-10 of 1-10 on cheetah_run",
    ):
        assert line in warnings
        assert f"warning: {line}" in printed
    assert "10.0 ± 2.3 (4.0, 3) †1" in printed
    diagnostics = {"figure3_cheetah_run", "diagnostics_cheetah_run"}
    assert {"figure1", "figure2", "figure4", "aggregates_drq", "curves", *diagnostics} == drawn.keys()
    assert drawn["figure4"][2]["cheetah_run"][1].frame == 20_000
    assert drawn["figure4"][3] == 500_000


def test_without_the_extra_the_remedy_is_one_line(make_run_dir, tmp_path, monkeypatch):
    make_run_dir("a", MLP2, whole(1.0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rliable" else name)
    result = invoke(main, "runs=[.]", f"out={tmp_path / 'out'}")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: rliable not installed; run pip install 'drq_sn[report]'\n"
    assert not (tmp_path / "out").exists()


def test_aggregates_say_what_they_left_out_where_warnings_stand(make_run_dir, report, tmp_path):
    for task in ("dog_run", "dog_walk", "dog_trot"):
        make_run_dir(task, MLP2, whole(3.0), task=task)
    make_run_dir("stray", MODERN_SN, whole(3.0), task="dog_run")
    line = "aggregates, DrQ, published setting: variants left out, on fewer than half as many tasks as the one on most "
    line += "at frame 20 000: modern4 + SN"
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
    damaged = "0,nan,inf,-inf\n9,inf,nan,nan\n"
    (run / "train.csv").write_text(f"frame,num_updates,frames_per_second,wall_time_s\n{damaged}")
    report()
    (row,) = read_csv(tmp_path / "out" / "runs.csv")
    assert (row["num_updates"], row["frames_per_second"]) == ("0", "")


def test_another_frame_and_figure_3(make_run_dir, report, tmp_path, drawn):
    make_run_dir("a1", MLP2, whole(10.0), task="cartpole_swingup")
    report(Choices(frame=10_000, num_bootstrap=20))
    row = next(row for row in read_csv(tmp_path / "out" / "table2.csv") if row["n"] == "1")
    assert (row["task"], row["mean"], row["frame"], row["se"]) == ("cartpole_swingup", "2", "10000", "")
    assert "figure3" in drawn
    assert (tmp_path / "out" / "figure3.svg").is_file()
    for name in ("all_runs.csv", "aggregates.csv"):
        assert {row["frame"] for row in read_csv(tmp_path / "out" / name)} == {"10000"}


def test_runs_with_other_settings_are_compared_under_names_of_their_own(make_run_dir, report, tmp_path, drawn):
    make_run_dir("a1", MLP2, whole(10.0))
    make_run_dir("small", [*MLP2, "env.image_size=48"], whole(30.0))
    make_run_dir("small2", [*MLP2, "env.image_size=48"], whole(32.0), seed=2)
    printed = report()
    means = {row["variant"]: row["mean"] for row in read_csv(tmp_path / "out" / "all_runs.csv")}
    assert means == {"image_size=84": "10", "image_size=48": "31"}
    assert [row["mean"] for row in read_csv(tmp_path / "out" / "table2.csv") if row["mean"]] == ["10"]
    for name in ("index.html", "all_runs.md"):
        page = (tmp_path / "out" / name).read_text()
        assert "image_size=48: env.image_size=48 (published: 84)." in page
    assert "first frames differ" not in printed  # another image size is another world
    assert [len(drawn[name][0]) for name in ("curves", "figure1")] == [3, 1]
    assert {"aggregates_drq", "aggregates_drq_2"} <= drawn.keys()


def test_runs_that_no_table_asks_for_are_reported_all_the_same(make_run_dir, report, tmp_path, drawn):
    make_run_dir("x", ["agent=drqv2", "head=simba", "normalizer=nap"], whole(5.0), task="dog_run")
    (tmp_path / "runs" / "bare").mkdir()
    (tmp_path / "runs" / "bare" / "config.yaml").write_text("task: t\nseed: 1\n")
    printed = report()
    assert "dog_run" in printed
    assert [(row["task"], row["mean"]) for row in read_csv(tmp_path / "out" / "all_runs.csv")] == [
        ("dog_run", "5"),
        ("t", ""),
    ]
    assert {"curves", "aggregates_drqv2", "figure3_dog_run"} <= drawn.keys()
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Table 1" not in page
    assert "All runs: left out, without evaluations: t other other + other" in printed


def test_cup_catch_has_two_names(make_run_dir, report, tmp_path):
    v2 = ["agent=drqv2", "head=mlp2", "normalizer=none"]
    make_run_dir("a", v2, whole(10.0), task="cup_catch")
    make_run_dir("b", v2, whole(20.0), seed=2, task="ball_in_cup_catch")
    report()
    (row,) = [row for row in read_csv(tmp_path / "out" / "table1.csv") if row["n"] != "0"]
    assert (row["task"], row["mean"], row["n"]) == ("cup_catch", "15", "2")


def test_a_former_report_is_overwritten_and_other_files_stay(make_run_dir, report, tmp_path):
    make_run_dir("a1", MLP2, whole(10.0))
    small = make_run_dir("small", [*MLP2, "env.image_size=48"], whole(30.0))
    report()
    own = ("notes.txt", "table2_final.tex", "figure1_annotated.png", "aggregates_notes.md", "aggregates_drq_3.svg")
    for name in own:
        (tmp_path / "out" / name).write_text("mine")
    (tmp_path / "elsewhere.md").write_text("mine")
    with (tmp_path / "out" / "report_files.txt").open("a") as file:
        file.write("../elsewhere.md\n")
    assert "aggregates_drq_2.svg" in names(tmp_path / "out")
    before = (tmp_path / "out" / "table2.csv").read_bytes()
    (small / "config.yaml").unlink()
    report()
    assert (tmp_path / "out" / "table2.csv").read_bytes() == before
    assert [(tmp_path / "out" / name).read_text() for name in (*own, "../elsewhere.md")] == ["mine"] * 6
    assert not [name for name in names(tmp_path / "out") if "drq_2" in name]
    listed = (tmp_path / "out" / "report_files.txt").read_text().splitlines()[1:]
    assert sorted([*listed, "report_files.txt", *own]) == names(tmp_path / "out")


def test_a_users_own_list_takes_nothing_away(make_run_dir, report, tmp_path):
    make_run_dir("a1", MLP2, whole(10.0))
    report()
    (tmp_path / "out" / "mine.md").write_text("mine")
    (tmp_path / "out" / "report_files.txt").write_text("mine\nmine.md\n")
    report()
    assert (tmp_path / "out" / "mine.md").read_text() == "mine"


def test_a_report_has_the_diagnostics_of_every_task(make_run_dir, report, tmp_path, drawn):
    make_run_dir("a1", MLP2, whole(10.0))
    make_run_dir("a2", MLP2, {0: 1.0, 10_000: 4.0}, seed=2, status="crashed")
    make_run_dir("small", [*MLP2, "env.image_size=48"], whole(30.0), task="dog_run")
    report()
    values = {
        (row["task"], row["seed"], row["frame"]): row["value"] for row in read_csv(tmp_path / "out/diagnostics.csv")
    }
    assert (values["cheetah_run", "2", "10000"], values["dog_run", "1", "20000"]) == ("4", "30")
    (group,) = drawn["figure3_cheetah_run"][1]
    assert (group.label, len(group.runs)) == ("image_size=84", 2)
    assert "figure3_dog_run.svg" in names(tmp_path / "out")


def test_a_run_is_what_its_record_says(make_run_dir, report, tmp_path):
    choices = {
        "agent": "drqv2",
        "head": "bronet",
        "normalizer": "nap",
        "preset": "laptop",
        "task": "dog_run",
        "seed": 7,
    }
    overrides = [{"name": "lr", "value": 1.0, "published": 0.5}]
    make_run_dir("a1", MLP2, whole(10.0), record={"choices": choices, "overrides": overrides})
    report()
    (row,) = read_csv(tmp_path / "out" / "runs.csv")
    assert [row[name] for name in ("task", "agent", "head", "normalizer", "seed")] == [
        "dog_run", "drqv2", "bronet", "nap", "7"
    ]  # fmt: skip
    assert row["departures"] == "lr=1.0 (published: 0.5)"


def test_what_a_user_has_is_never_overwritten(make_run_dir, tmp_path):
    run = make_run_dir("a1", MLP2, whole(10.0))
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
        ("config.yaml", "task: t\nseed: 1\nlr: ${x}\n", r"config\.yaml: lr must be a plain value, .* got '\$\{x\}'"),
    ],
)
def test_a_damaged_run_leaves_nothing(make_run_dir, tmp_path, file, content, message):
    run = make_run_dir("a1", MLP2, whole(10.0))
    (run / file).write_text(content)
    with pytest.raises(InvalidInput, match=message):
        run_report([str(run)], tmp_path / "out", QUICK, [])
    assert names(tmp_path) == ["runs"]


def test_the_published_runs_make_a_page_that_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = f"runs=['{RESULTS}/depth_and_lr','{RESULTS}/normalizers/runs/*_spectral_laptop']"
    result = invoke(main, runs, "num_bootstrap=20", f"profiles=['{RESULTS}/profile']")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert names(tmp_path) == ["report"]
    out = tmp_path / "report"
    assert {"index.html", "runs.csv", "warnings.txt", "all_runs.tex", "table3.csv", "curves.pdf"} <= set(names(out))
    page = (out / "index.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert "243.94" in page  # Table 3, measured
    found = {(row["variant"], row["n"], row["frame"]): row for row in read_csv(out / "all_runs.csv")}
    shallow = found["settings 1", "2", "6000"]
    assert float(shallow["mean"]) == pytest.approx((314.8181660035029 + 397.73718318186565) / 2)  # as in its eval.csv
    assert "head.critic.num_blocks=1, head.width=256, lr=0.0001" in shallow["settings"]
    assert ("settings 5", "2", "16000") in found
    assert next(row["folder"] for row in read_csv(out / "runs.csv")) == os.path.relpath(
        RESULTS / "depth_and_lr/drqv2_modern4_spectral_blocks1_lr0.0001/seed_1", tmp_path
    )


def test_a_wrong_folder_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(main, "runs=nowhere")
    assert result.returncode == 2
    assert result.stderr.startswith("error: runs='nowhere': matches no directory; give a run directory")
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "message"),
    [("-m", "--multirun: a report shows all of runs=[...] side by side"), ("rnus=[a]", "did you mean 'runs'")],
)
def test_a_wrong_command_line_is_one_line(word, message):
    result = invoke(main, word)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert message in line


def test_choices_are_checked():
    good = {"out": "report", "frame": None, "num_bootstrap": 5, "seed": 0}
    assert parse_choices(OmegaConf.create(good)) == Choices(None, 5, 0)
    for bad in ({"frame": "end"}, {"frame": -1}, {"num_bootstrap": 0}, {"seed": None}):
        (name,) = bad
        with pytest.raises(InvalidInput, match=f"{name} must be"):
            parse_choices(OmegaConf.create(good | bad))


def test_runs_may_be_a_string_or_a_list():
    cfg = OmegaConf.create({"one": "a b/*", "list": ["a", 3], "none": None, "empty": []})
    assert [parse_patterns(cfg.one), parse_patterns(cfg.list)] == [["a b/*"], ["a", "3"]]
    for nothing in (cfg.none, cfg.empty):
        with pytest.raises(InvalidInput, match=r"runs must name run directories, got .*; give"):
            parse_patterns(nothing)
