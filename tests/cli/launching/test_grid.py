"""Which runs a sweep is made of."""

from __future__ import annotations

import itertools
import shutil

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.experiments import load_experiment, names
from drq_sn.cli.launching.grid import plan, split_words
from drq_sn.cli.running.run import run
from drq_sn.validation import InvalidInput

# Bjorck et al. (2021): tables and figures, by hand
PAPER = {
    "table1": 5 * 3 * 10,
    "table2": 15 * 2 * 10,
    "figure1": 300,
    "figure2": 300,
    "figure3": 1 * 2 * 5,
    "figure4": 300,
}


def chosen(run, *keys):
    words = dict(word.split("=", 1) for word in run.words)
    return tuple(words[key] for key in keys)


def test_every_experiment_has_the_number_of_runs_that_the_paper_made():
    assert set(names()) == {*PAPER, "table3"}
    for name in ("table1", "figure3"):
        assert len(plan([], load_experiment(name))) == PAPER[name]
    for name, number in PAPER.items():
        experiment = load_experiment(name)
        assert len(experiment.tasks) * len(experiment.variants) * len(experiment.seeds) == number


def test_table1_is_every_task_with_every_variant_and_seed():
    runs = plan(["seed=1,2"], load_experiment("table1"))
    tasks = ("cup_catch", "walker_walk", "cartpole_balance_sparse", "hopper_stand", "reacher_easy")
    variants = (("mlp2", "none"), ("modern4", "none"), ("modern4", "spectral"))
    expected = {
        ("drqv2", task, *variant, str(seed)) for task, variant, seed in itertools.product(tasks, variants, (1, 2))
    }
    assert {chosen(run, "agent", "task", "head", "normalizer", "seed") for run in runs} == expected
    assert {run.num_train_frames for run in runs} == {500000}
    assert str(runs[0].run_dir) == "runs/cup_catch/drqv2_mlp2_none/seed_1"


def test_a_part_of_an_experiment():
    words = ["task=cup_catch", "head=modern4", "seed=7", "num_train_frames=20000", "lr=1e-3"]
    runs = plan(words, load_experiment("table1"))
    assert [chosen(run, "normalizer") for run in runs] == [("none",), ("spectral",)]
    assert all({"task=cup_catch", "seed=7", "lr=1e-3"} <= set(run.words) for run in runs)
    assert [run.num_train_frames for run in runs] == [20000, 20000]


@pytest.mark.parametrize(
    "words", [["head=mlp4"], ["normalizer=nap"], ["head=mlp2", "normalizer=spectral"], ["agent=drq"]]
)
def test_what_is_no_part_of_an_experiment_is_refused(words):
    with pytest.raises(InvalidInput, match="experiment=table1"):
        plan(words, load_experiment("table1"))


def test_runs_are_every_combination():
    runs = plan(["task=walker_walk,cup_catch", "head=mlp2,mlp4", "seed=range(1,4)"])
    expected = itertools.product(("walker_walk", "cup_catch"), ("mlp2", "mlp4"), "123")
    assert [chosen(run, "task", "head", "seed") for run in runs] == list(expected)


@pytest.mark.parametrize("words", [["lr=1e-3,1e-4"], ["augmentation=none,flip"], ["run_dir=somewhere", "seed=1,2"]])
def test_two_runs_in_one_folder_are_refused_and_the_way_out_works(words):
    with pytest.raises(InvalidInput, match="set a run_") as refused:
        plan(words)
    cure = str(refused.value).split("'")[-2]
    kept = [word for word in words if word.split("=")[0] != cure.split("=")[0]]
    folders = {run.run_dir for run in plan([*kept, cure])}
    assert len(folders) == 2
    assert all("{" not in str(folder) for folder in folders)


@pytest.mark.parametrize("word", ["seed=x", "seed=-1", "seed=1.5"])
def test_seeds_are_whole_numbers(word):
    with pytest.raises(InvalidInput, match="seed must be"):
        plan([word])


def test_a_folder_with_other_settings_is_refused_before_anything_begins(configure, tmp_path):
    cfg = configure("num_train_frames=200")
    run(cfg)
    words = [f"run_dir={tmp_path / 'run'}", *(f"{key}={value}" for key, value in
             {"task": "synthetic_point", "batch_size": 8, "head.width": 16}.items())]  # fmt: skip
    with pytest.raises(InvalidInput, match="lr was"):
        plan([*words, "lr=3e-3"])
    shutil.rmtree(tmp_path / "run")
    assert len(plan([*words, "lr=3e-3"])) == 1


def test_words_of_the_sweep_and_of_its_runs():
    words = ["experiment=table1", "seed=1,2", "launcher.runs_per_gpu=3", "+launcher.ray.init.num_cpus=2", "lr=1e-3"]
    own, of_runs = split_words(words, ("experiment", "launcher"))
    assert own == [words[0], words[2], words[3]]
    assert of_runs == ["seed=1,2", "lr=1e-3"]


def test_a_run_that_ended_earlier_than_asked_is_refused(tmp_path):
    words = [f"run_dir={tmp_path}", "num_train_frames=20000"]
    (run,) = plan(words)
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        cfg = compose("train", list(run.words))
    OmegaConf.set_struct(cfg, False)
    del cfg["tuned"]
    OmegaConf.save(cfg, tmp_path / "config.yaml", resolve=True)
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    assert len(plan(words)) == 1
    assert len(plan([words[0], "num_train_frames=10000"])) == 1
    with pytest.raises(InvalidInput, match="already finished at frame 20000"):
        plan([words[0], "num_train_frames=30000"])


def test_a_preset_has_its_own_length():
    words = ["task=cup_catch", "head=mlp2", "seed=1", "preset=laptop"]
    assert [run.num_train_frames for run in plan(words, load_experiment("table1"))] == [40000]
    assert [run.num_train_frames for run in plan([*words, "num_train_frames=200"], load_experiment("table1"))] == [200]
