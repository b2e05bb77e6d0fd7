"""Identity of runs: by the choices in `run.json`, or by the configuration for runs of older code."""

from __future__ import annotations

import json

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from drq_sn.cli.config.identify import OTHER, find_choice, read_run, record_choices
from drq_sn.cli.config.overrides import group_options, initialized
from drq_sn.cli.running.run_dir import flatten
from drq_sn.report.table_formats import format_departures
from drq_sn.report.types import Departure, Preset, Variant
from drq_sn.validation import InvalidInput
from tests.builders import ROOT, compose_config, write_config

with initialized():
    GROUPS = group_options()


@pytest.fixture
def identify_overrides(tmp_path):
    """`identify_overrides("head=mlp4", ...)` -> identity of a run of older code with these overrides."""

    def run(*overrides, **changes):
        return read_run(write_config(tmp_path / "run", overrides, **changes))

    return run


@pytest.mark.parametrize(("agent", "task"), [("drq", "reach_duplo"), ("drqv2", "humanoid_run")])
def test_the_published_setting_of_a_task_has_no_departures(identify_overrides, agent, task):
    overrides = [f"agent={agent}", f"task={task}", "head=mlp4", "normalizer=none", "seed=7"]
    elsewhere = ["device=cpu", "num_threads=3", "runtime=compile", "num_train_frames=100", "keep_checkpoint=true"]
    identity = identify_overrides(*overrides, *elsewhere)
    assert (identity.task, identity.seed, identity.departures) == (task, 7, ())
    assert identity.variant == Variant(agent, "mlp4", "none")
    assert identity.options["num_train_frames"] == 100


@pytest.mark.parametrize("group", ["agent", "head", "normalizer"])
def test_every_choice_is_recognized_by_its_options(group):
    for name in GROUPS[group]:
        cfg = compose_config(f"{group}={name}")
        cfg.head.update({option: value for option, value in (("width", 64), ("pnorm", True)) if option in cfg.head})
        assert find_choice(group, flatten(OmegaConf.to_container(cfg))) == name


def test_departures_have_names_values_and_published_values(identify_overrides):
    overrides = ["lr=2e-4", "env.shadow_map_size=1024", "normalizer.layers=[-2]", "penalty=gradient", "n_step=3"]
    departures = identify_overrides(*overrides, "task=walker_walk", "head.width=64").departures
    assert departures[0] == Departure("env.shadow_map_size", 1024, None)
    penalties = "drq_sn.agents.penalties"
    assert format_departures(departures) == [
        "env.shadow_map_size=1024 (published: null)",
        "head.width=64 (published: 1024)",
        "lr=0.0002 (published: 0.0001)",
        "n_step=3 (published: 1)",
        "normalizer.layers=[-2] (published: inner)",
        f"penalty._target_={penalties}.GradientPenalty (published: {penalties}.NoPenalty)",
        "penalty.coefficient=1.0 (published: absent)",
        "penalty.norm=1.0 (published: absent)",
    ]


def test_a_laptop_run_departs_in_what_the_preset_sets(identify_overrides):
    identity = identify_overrides("preset=laptop", "task=cartpole_balance")
    assert identity.preset == Preset("laptop", identity.departures)
    assert identify_overrides("task=cartpole_balance", "lr=5e-4").preset == Preset()
    names = {departure.name for departure in identity.departures}
    assert names == {
        "agent.num_filters", "agent.tau", "batch_size", "env.image_size", "env.reflections", "env.shadows",
        "head.width", "lr", "n_step", "num_random_steps", "augmentation.pad",
    }  # fmt: skip


def test_options_that_older_runs_did_not_have_are_no_departures(identify_overrides):
    lost = ["head.pnorm", "normalizer.networks", "normalizer.conv_layers", "normalizer.trunk", "penalty", "lr_schedule",
            "agent.adam_eps", "matmul_precision", "encoder_dtype", "diagnose_states"]  # fmt: skip
    identity = identify_overrides("head=modern4", "normalizer=spectral", without=lost)
    assert (identity.variant, identity.departures) == (Variant("drqv2", "modern4", "spectral"), ())


def test_unknown_parts_are_other_and_departures(identify_overrides):
    head = {"width": 128, "actor": {"_target_": "mine.Head"}, "critic": {"_target_": "mine.Head"}}
    identity = identify_overrides(replaced={"head": head, "agent": {"_target_": "mine.Agent"}})
    assert identity.variant == Variant(OTHER, OTHER, "spectral")
    departures = format_departures(identity.departures)
    assert "head._target_=mine.Head (published: drq_sn.networks.heads.ModernHead)" in departures
    assert "head.critic.num_blocks=absent (published: 3)" in departures
    assert "agent._target_=mine.Agent (published: drq_sn.agents.DrQV2)" in departures


def test_a_configuration_without_agent_departs_in_what_it_has(tmp_path):
    (tmp_path / "config.yaml").write_text("task: t\nseed: 1\nlr: 2\ndevice: cpu\n")
    identity = read_run(tmp_path)
    assert identity.variant == Variant(OTHER, OTHER, OTHER)
    assert [departure.assignment for departure in identity.departures] == ["agent._target_=absent", "lr=2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: t\nseed: 1\nlr: ${nowhere}\n", r"lr must be a plain value, as runs save them, got '\$\{nowhere\}'"),
        ("task: t\n", "seed must be an integer"),
        ("seed: 1\n", "task must be a name"),
        ("- 1\n", "not a configuration that a run wrote"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_a_foreign_configuration_is_one_line(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=rf"config\.yaml.*{message}") as error:
        read_run(tmp_path)
    assert "\n" not in str(error.value)


def test_choices_and_overrides_of_the_record_are_read_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(HydraConfig, "initialized", lambda: False)  # other tests may have set it
    cfg = compose_config("head=mlp2", "env.image_size=48", "normalizer.layers=[-2]")
    cfg.run_dir = "runs"
    OmegaConf.resolve(cfg)
    (tmp_path / "run.json").write_text(json.dumps(record_choices(cfg)))
    write_config(tmp_path, ["task=walker_walk"])  # not read for the choices
    identity = read_run(tmp_path)
    assert (identity.task, identity.seed) == (cfg.task, cfg.seed)
    assert identity.variant == Variant("drqv2", "mlp2", "spectral")
    assert identity.departures == (Departure("env.image_size", 48, 84), Departure("normalizer.layers", [-2], "inner"))


def test_options_that_came_later_are_no_departures_of_older_runs():
    runs = [read_run(path / "seed_1") for path in (ROOT / "results" / "normalizers" / "runs").glob("*_div_*")]
    assert {run.setting for run in runs} == {
        "agent.num_filters=16, agent.std_schedule.duration_steps=10000, agent.tau=0.02, augmentation.pad=2, "
        "batch_size=128, env.image_size=48, env.reflections=false, env.shadows=false, eval_every_frames=4000, "
        "head.width=256, lr=0.0005, num_eval_episodes=5, num_random_steps=1000"
    }
    assert {run.variant.normalizer for run in runs} == {"div_out", "div_grad"}
