"""Which runs a sweep consists of."""

from __future__ import annotations

import itertools

import pytest
from omegaconf import OmegaConf

from drq_sn.cli.config.experiments import load_experiment
from drq_sn.cli.config.overrides import INTERNAL_GROUPS, check_overrides
from drq_sn.cli.config.search_path import choices_of
from drq_sn.cli.launching.grid import compose_run, plan, split_overrides
from drq_sn.validation import InvalidInput

pytestmark = pytest.mark.process  # composes many configurations

# number of runs in Bjorck et al. (2021), by hand: tasks x variants x seeds
NUM_RUNS = {
    "table1": 5 * 3 * 10,
    "table2": 15 * 2 * 10,
    "figure1": 15 * 2 * 10,
    "figure2": 15 * 2 * 10,
    "figure3": 1 * 2 * 5,
    "figure4": 15 * 2 * 10,
    # Gogianu et al. (2021), what is built of it: games x networks x normalizers (x learning rates) x seeds
    "gogianu_lr": 4 * 6 * 2 * 3 * 2,
    "gogianu_depth": 4 * 12 * 5 * 10,
    "gogianu_schedulers": 4 * 5 * 10,
    "gogianu_all_layers": 4 * 3 * 10,
    # smaller ones of ours
    "laptop_table1": 2 * 3 * 5,
    "laptop_table2": 1 * 3 * 3,
}
LAPTOP = {
    "gogianu_lr": (1 * 6 * 2, 500_000),
    "gogianu_depth": (2 * 2 * 3 * 2, 1_000_000),
    "gogianu_schedulers": (5 * 2, 1_000_000),
    "gogianu_all_layers": (3 * 2, 1_000_000),
}


def values(run, *keys):
    overrides = dict(override.split("=", 1) for override in run.overrides)
    return tuple(overrides[key] for key in keys)


def save(run, status="finished"):
    """Write what a run with this plan leaves in its directory."""
    cfg = compose_run(run.overrides)
    OmegaConf.resolve(cfg)
    run.run_dir.mkdir(parents=True, exist_ok=True)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in INTERNAL_GROUPS])
    OmegaConf.save(own, run.run_dir / "config.yaml")
    (run.run_dir / "run.json").write_text(f'{{"status": "{status}"}}')


def test_experiments_have_as_many_runs_as_the_papers():
    assert set(choices_of("experiment")) == set(NUM_RUNS)
    for name, count in NUM_RUNS.items():
        experiment = load_experiment(name)
        assert len(experiment.tasks) * len(experiment.variants) * len(experiment.seeds) == count
    assert len(plan([], load_experiment("figure3"))) == NUM_RUNS["figure3"]


@pytest.mark.parametrize("name", LAPTOP)
def test_a_smaller_preset_trains_its_part_of_an_experiment(name):
    count, num_frames = LAPTOP[name]
    experiment = load_experiment(name, "laptop")
    assert len(experiment.tasks) * len(experiment.variants) * len(experiment.seeds) == count
    assert experiment.num_train_frames == num_frames
    assert len(experiment.labels) == len(set(experiment.labels)) == len(experiment.variants)


def test_variants_of_axes_become_overrides_and_name_the_directory():
    runs = plan(["preset=laptop", "seed=1"], load_experiment("gogianu_all_layers", "laptop"))
    suffixes = ("_24x3_none", "_24x3_sn-2-3-4-5", "_24x3_divgrad-2-3-4-5")
    choices = ("none", "spectral", "div_grad")
    assert [str(run.run_dir) for run in runs] == [
        f"runs/minatar_breakout/dqn_none_{choice}{suffix}_laptop/seed_1"
        for choice, suffix in zip(choices, suffixes, strict=True)
    ]
    assert "normalizer.layers=[-2, -3, -4, -5]" in runs[1].overrides
    assert {run.num_train_frames for run in runs} == {1_000_000}
    cfg = compose_run(runs[2].overrides)
    OmegaConf.resolve(cfg)
    assert (cfg.normalizer.layers, cfg.normalizer.minimum_sigma) == ([-2, -3, -4, -5], 1.0)


def test_a_run_suffix_is_added_to_those_of_axes():
    runs = plan(["seed=1", "lr=1e-3,1e-4", "run_suffix=_lr${lr}"], load_experiment("gogianu_all_layers"))
    breakout = [run.run_dir.parent.name for run in runs if "breakout" in str(run.run_dir)]
    assert breakout[:2] == ["dqn_none_none_24x3_none_lr0.001", "dqn_none_none_24x3_none_lr0.0001"]
    assert len(breakout) == 6


def test_table1_is_every_task_with_every_variant():
    runs = plan(["seed=9,10"], load_experiment("table1"))
    tasks = ("cup_catch", "walker_walk", "cartpole_balance_sparse", "hopper_stand", "reacher_easy")
    variants = (("mlp2", "none"), ("modern4", "none"), ("modern4", "spectral"))
    expected = {
        ("drqv2", task, *variant, str(seed)) for task, variant, seed in itertools.product(tasks, variants, (9, 10))
    }
    assert len(runs) == len(expected)
    assert {values(run, "agent", "task", "head", "normalizer", "seed") for run in runs} == expected
    assert {run.num_train_frames for run in runs} == {500000}
    assert str(runs[0].run_dir) == "runs/cup_catch/drqv2_mlp2_none/seed_9"


def test_overrides_select_and_change_a_part_of_an_experiment():
    overrides = ["task=cup_catch", "head=modern4", "seed=7", "num_train_frames=20000", "lr=1e-3"]
    runs = plan(overrides, load_experiment("table1"))
    assert [values(run, "normalizer") for run in runs] == [("none",), ("spectral",)]
    assert all({"task=cup_catch", "seed=7", "lr=1e-3"} <= set(run.overrides) for run in runs)
    assert [run.num_train_frames for run in runs] == [20000, 20000]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head=modern4,simba"], "only has head mlp2 and modern4, got head=simba"),
        (["head=mlp2", "normalizer=spectral"], "has no run with head=mlp2 normalizer=spectral"),
        (["agent=drq"], "only has agent drqv2"),
    ],
)
def test_what_is_not_part_of_an_experiment_is_refused(overrides, message):
    with pytest.raises(InvalidInput, match=f"experiment=table1 {message}"):
        plan(overrides, load_experiment("table1"))


def test_runs_are_every_combination():
    runs = plan(["task=walker_walk,cup_catch", "head=mlp2,mlp4", "seed=range(1,4)"])
    expected = itertools.product(("walker_walk", "cup_catch"), ("mlp2", "mlp4"), "123")
    assert [values(run, "task", "head", "seed") for run in runs] == list(expected)


@pytest.mark.parametrize(
    "overrides",
    [["lr=1e-3,1e-4"], ["augmentation=none,flip"], ["run_dir=somewhere", "seed=1,2"],
     ["run_dir=somewhere", "head=mlp2,modern4"], ["+head.actor.width=256,512"]],
)  # fmt: skip
def test_two_runs_in_one_directory_are_refused_and_the_remedy_works(overrides):
    with pytest.raises(InvalidInput, match="set a run_") as refused:
        plan(overrides)
    remedy = str(refused.value).split("'")[-2]
    others = [override for override in overrides if override.split("=")[0] != remedy.split("=")[0]]
    directories = {run.run_dir for run in plan([*others, remedy])}
    assert len(directories) == 2
    assert all("{" not in str(directory) for directory in directories)


def test_options_of_an_experiment_are_those_of_its_agent_and_numbers_are_compared_as_numbers():
    check_overrides(["-m", "experiment=figure3", "agent.initial_temperature=0.2"], "sweep")
    runs = plan(["preset=laptop", "lr=1e-3", "seed=1"], load_experiment("gogianu_lr", "laptop"))
    assert [run.run_dir.parts[-2] for run in runs] == [
        "dqn_none_none_24x3_none_lr1e-3_laptop", "dqn_none_spectral_24x3_sn-2_lr1e-3_laptop"
    ]  # fmt: skip
    assert {run.sets_cpus for run in runs} == {("num_threads", "num_eval_processes")}
    assert plan(["num_threads=2"])[0].sets_cpus == ("num_threads",)


def test_paths_of_two_runs_are_compared_and_not_their_names():
    with pytest.raises(InvalidInput, match=r"requested with run_dir=a and with run_dir=b/\.\./a"):
        plan(["run_dir=a,b/../a"])


@pytest.mark.parametrize("override", ["seed=x", "seed=-1", "seed=1.5"])
def test_seeds_are_integers(override):
    with pytest.raises(InvalidInput, match="seed must be"):
        plan([override])


def test_only_a_run_with_the_same_settings_is_resumed(tmp_path):
    overrides = [f"run_dir={tmp_path}", "task=walker_walk"]  # a task with tuned settings
    (run,) = plan(overrides)
    save(run, status="interrupted")
    assert plan(overrides) == [run]
    with pytest.raises(InvalidInput, match="lr was"):
        plan([*overrides, "lr=3e-3"])
    assert len(plan([*overrides, "lr=3e-3", "fresh=true"])) == 1


def is_over(run_dir, num_train_frames):
    (run,) = plan([f"run_dir={run_dir}", f"num_train_frames={num_train_frames}"])
    return run.is_over


def test_which_runs_are_over(tmp_path):
    assert not is_over(tmp_path, 20000)
    (run,) = plan([f"run_dir={tmp_path}", "num_train_frames=20000"])
    save(run)
    over = {"finished": True, "diverged": True, "crashed": True, "running": False, "failed": False}
    for status, expected in over.items():
        (tmp_path / "run.json").write_text(f'{{"status": "{status}"}}')
        assert is_over(tmp_path, 20000) == expected, status


def test_a_finished_run_is_made_longer_from_its_checkpoint_only(tmp_path):
    (run,) = plan([f"run_dir={tmp_path}", "num_train_frames=20000"])
    save(run)
    assert is_over(tmp_path, 10000)
    with pytest.raises(InvalidInput, match="already finished at frame 20000 and kept no checkpoint"):
        is_over(tmp_path, 30000)
    (tmp_path / "checkpoint").mkdir()
    assert not is_over(tmp_path, 30000)
    save(run, "diverged")
    assert is_over(tmp_path, 30000)


def test_a_preset_sets_the_length():
    overrides = ["task=cup_catch", "head=mlp2", "seed=1", "preset=laptop"]
    assert [run.num_train_frames for run in plan(overrides, load_experiment("table1"))] == [40000]
    longer = [*overrides, "num_train_frames=200"]
    assert [run.num_train_frames for run in plan(longer, load_experiment("table1"))] == [200]


def test_overrides_of_the_sweep_are_separated_from_those_of_its_runs():
    overrides = ["experiment=table1", "seed=1,2", "launcher.runs_per_gpu=3", "+launcher.comment=x", "lr=1e-3"]
    sweep, runs = split_overrides(overrides, ("experiment", "launcher"))
    assert sweep == [overrides[0], overrides[2], overrides[3]]
    assert runs == ["seed=1,2", "lr=1e-3"]
