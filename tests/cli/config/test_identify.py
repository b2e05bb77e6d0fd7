"""What a run trained, from the configuration it wrote."""

from __future__ import annotations

import pytest

from drq_sn.cli.config.experiments import load_experiment
from drq_sn.cli.config.identify import OTHER, Recognizer
from drq_sn.cli.config.overrides import group_options, initialized
from drq_sn.validation import InvalidInput
from tests.cli.run_folders import published_options, write_config

with initialized():
    GROUPS = group_options()


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer()


@pytest.fixture
def recognize(tmp_path, recognizer):
    """`recognize("head=mlp4", ...)` -> what a run with these words is taken for."""

    def run(*words, **changes):
        return recognizer.recognize(write_config(tmp_path / "run", words, **changes))

    return run


@pytest.mark.parametrize("agent", GROUPS["agent"])
@pytest.mark.parametrize("task", ["walker_walk", "humanoid_run", "cup_catch", "reach_duplo"])
def test_the_published_setting_of_any_task_departs_in_nothing(recognize, agent, task):
    words = [f"agent={agent}", f"task={task}", "head=mlp4", "normalizer=none", "seed=7"]
    elsewhere = ["device=cpu", "num_threads=3", "runtime=compile", "num_train_frames=100", "keep_checkpoint=true"]
    variant, departures, options = recognize(*words, *elsewhere)
    assert variant == (agent, "mlp4", "none")
    assert departures == ()
    assert (options["task"], options["seed"], options["num_train_frames"]) == (task, 7, 100)


@pytest.mark.parametrize("head", GROUPS["head"])
def test_heads_are_told_apart_whatever_their_width(recognize, head):
    variant, departures, _ = recognize(f"head={head}", "head.width=64", "head.pnorm=true")
    assert variant.head == head
    assert departures == ("head.pnorm=true (published: false)", "head.width=64 (published: 1024)")


@pytest.mark.parametrize("normalizer", GROUPS["normalizer"])
def test_normalizers_are_told_apart(recognize, normalizer):
    variant, departures, _ = recognize(f"normalizer={normalizer}")
    assert variant.normalizer == normalizer
    assert departures == ()


def test_departures_are_listed_once_as_they_were_asked_for(recognize):
    words = [
        "lr=2e-4",
        "env.shadow_map_size=1024",
        "normalizer.layers=[-2]",
        "penalty=gradient",
        "task=walker_walk",
        "n_step=3",
    ]
    assert recognize(*words)[1] == (
        "env.shadow_map_size=1024 (published: null)",
        "lr=0.0002 (published: 0.0001)",
        "n_step=3 (published: 1)",
        "normalizer.layers=[-2] (published: inner)",
        "penalty._target_=drq_sn.agents.penalties.GradientPenalty (published: drq_sn.agents.penalties.NoPenalty)",
        "penalty.coefficient=1.0 (published: absent)",
        "penalty.norm=1.0 (published: absent)",
    )


def test_a_laptop_run_departs_in_what_the_preset_says(recognize):
    names = {departure.split("=")[0] for departure in recognize("preset=laptop", "task=cartpole_balance")[1]}
    assert names == {"agent.num_filters", "agent.tau", "batch_size", "env.image_size", "env.reflections", "env.shadows",
                     "head.width", "lr", "agent.std_schedule.duration_steps", "num_random_steps", "augmentation.pad"}  # fmt: skip


def test_runs_from_before_an_option_are_read_as_what_they_meant(recognize):
    lost = ["head.pnorm", "normalizer.networks", "normalizer.conv_layers",
            "normalizer.trunk", "penalty", "lr_schedule", "agent.adam_eps", "matmul_precision", "diagnose_states"]  # fmt: skip
    assert recognize("head=modern4", "normalizer=spectral", without=lost)[:2] == (("drqv2", "modern4", "spectral"), ())


def test_a_changed_head_is_called_after_its_folder(recognize):
    variant, departures, _ = recognize(
        "head=modern4", "head.critic.num_blocks=5", run_dir="runs/t/drqv2_modern4_spectral/seed_1"
    )
    assert variant.head == "modern4"
    assert departures == ("head.critic.num_blocks=5 (published: 3)",)
    longest = recognize("head=mlp_ln", "head.critic.num_hidden_layers=5", run_dir="runs/t/drqv2_mlp_ln_none/seed_1")
    assert longest[0].head == "mlp_ln"


def test_parts_of_the_users_own_are_other_and_departures(recognize):
    own = {"head": {"width": 128, "actor": {"_target_": "mine.Head"}, "critic": {"_target_": "mine.Head"}}}
    variant, departures, _ = recognize(replaced=own, run_dir="somewhere/seed_1")
    assert variant == ("drqv2", OTHER, "spectral")
    assert "head._target_=mine.Head (published: drq_sn.networks.heads.ModernHead)" in departures
    assert "head.critic.num_blocks=absent (published: 3)" in departures
    variant, departures, _ = recognize(
        replaced={"normalizer": {"_target_": "mine.Norm"}, "agent": {"_target_": "mine.Agent"}}
    )
    assert (variant.agent, variant.normalizer) == (OTHER, OTHER)
    assert "agent._target_=mine.Agent (published: drq_sn.agents.DrQV2)" in departures


def test_a_configuration_of_nothing_but_task_and_seed(tmp_path, recognizer):
    (tmp_path / "config.yaml").write_text("task: t\nseed: 1\n")
    assert recognizer.recognize(tmp_path)[:2] == ((OTHER, OTHER, OTHER), ("settings unknown",))


def test_unknown_settings_are_one_setting_only_where_all_options_are_the_same(tmp_path, recognizer):
    found = []
    for text in ("lr: 1", "lr: 2", "lr: 2\ndevice: cpu"):
        (tmp_path / "config.yaml").write_text(f"task: t\nseed: 1\n{text}\n")
        found.append(recognizer.recognize(tmp_path)[1])
    assert found == [("settings unknown", "lr=1"), ("settings unknown", "lr=2"), ("settings unknown", "lr=2")]


def test_an_interpolation_that_leads_nowhere_is_one_line(tmp_path, recognizer):
    (tmp_path / "config.yaml").write_text("task: t\nseed: 1\nlr: ${nowhere}\n")
    with pytest.raises(
        InvalidInput, match=r"config\.yaml: .*nowhere.*; it is not a configuration that a run wrote"
    ) as error:
        recognizer.recognize(tmp_path)
    assert "\n" not in str(error.value)


def test_a_configuration_is_composed_once_per_variant(tmp_path, monkeypatch):
    recognizer, plan = Recognizer(), load_experiment("table2")
    folders = [
        write_config(
            tmp_path / f"{task}_{variant['head']}",
            ["agent=drq", f"task={task}", *(f"{g}={n}" for g, n in variant.items())],
        )
        for task in plan.tasks
        for variant in plan.variants
    ]
    composed = []
    monkeypatch.setattr(
        "drq_sn.cli.config.identify.compose", lambda name, words: composed.append(words) or published_options(words)
    )
    assert all(recognizer.recognize(folder)[1] == () for folder in folders)
    assert len([words for words in composed if len(words) == 3]) == len(plan.variants)
