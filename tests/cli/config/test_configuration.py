"""Every option of every group composes and instantiates; the specification's numbers arrive where they act."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from drq_sn.cli.config.build import build_agent, build_head, build_loop, build_replay, config_dir
from drq_sn.cli.config.overrides import group_options
from drq_sn.envs import make_env

with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
    GROUPS = group_options()
OPTIONS = [
    (group, option)
    for group, options in GROUPS.items()
    for option in options
    if group not in ("runtime", "head", "normalizer")
]  # these have tests/agents/test_runtime.py and tests/agents/test_grid.py


@pytest.fixture
def published():
    """`published("task=...", ...)` -> the configuration of a full run, without a run folder."""

    def build(*overrides):
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            cfg = compose("train", overrides=list(overrides))
        cfg.run_dir = "nowhere"
        OmegaConf.resolve(cfg)
        return cfg

    return build


def test_the_groups_are_the_ones_that_the_readme_names():
    assert GROUPS["agent"] == ["drq", "drqv2"]
    assert GROUPS["head"] == ["bronet", "d2rl", "mlp2", "mlp4", "mlp_ln", "modern2", "modern4", "simba"]
    assert set(GROUPS["normalizer"]) == {"none", "spectral", "div_out", "div_grad", "mul_eps", "nap", "weight_norm"}
    assert GROUPS["penalty"] == ["gradient", "none"]
    assert set(GROUPS["lr_schedule"]) == {"constant", "linear", "cosine"}
    assert set(GROUPS["augmentation"]) == {
        "random_shift",
        "none",
        "rotation",
        "flip",
        "cutout",
        "intensity",
        "color_jitter",
    }
    assert GROUPS["preset"] == ["laptop", "published"]


@pytest.mark.parametrize("agent", GROUPS["agent"])
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_trains(configure, batch, agent, group, option):
    words = [f"agent={agent}", f"{group}={option}"]
    if group == "preset":
        words.append("env.shadows=true")
    cfg = configure(*words)
    env = make_env("synthetic_point", image_size=cfg.env.image_size)
    built = build_agent(cfg, env, torch.device("cpu"))
    assert set(built.update(batch, step=0)) <= set(built.metric_names)
    assert build_replay(cfg, env, torch.device("cpu")).batch_size == cfg.batch_size
    assert build_loop(cfg).num_steps == cfg.num_train_frames // 2


def test_drq_has_its_published_numbers(published):
    cfg = published("agent=drq", "task=walker_walk")
    assert (cfg.batch_size, cfg.n_step, cfg.gamma, cfg.lr) == (512, 1, 0.99, 1e-3)
    assert (cfg.replay.capacity_steps, cfg.num_random_steps, cfg.update_every_steps) == (100_000, 1000, 1)
    assert (cfg.agent.tau, cfg.agent.initial_temperature, cfg.agent.actor_update_every_steps) == (0.01, 0.1, 2)
    assert (cfg.num_train_frames, cfg.eval_every_frames, cfg.num_eval_episodes, cfg.action_repeat) == (
        500_000,
        10_000,
        10,
        2,
    )


EASY = [
    "cartpole_balance",
    "cartpole_balance_sparse",
    "cartpole_swingup",
    "cup_catch",
    "ball_in_cup_catch",
    "finger_spin",
    "hopper_stand",
    "pendulum_swingup",
    "walker_stand",
    "walker_walk",
]
MEDIUM = [
    "acrobot_swingup",
    "cartpole_swingup_sparse",
    "cheetah_run",
    "finger_turn_easy",
    "finger_turn_hard",
    "hopper_hop",
    "quadruped_run",
    "quadruped_walk",
    "reach_duplo",
    "reacher_easy",
    "reacher_hard",
    "walker_run",
]
HARD = ["humanoid_stand", "humanoid_walk", "humanoid_run"]


@pytest.mark.parametrize(
    ("task", "noise_decay_steps"),
    [*((t, 100_000) for t in EASY), *((t, 500_000) for t in MEDIUM), *((t, 2_000_000) for t in HARD)],
)
def test_drqv2_has_its_published_numbers_per_task(published, task, noise_decay_steps):
    cfg = published("agent=drqv2", f"task={task}")
    walker, humanoid = task.startswith("walker"), task.startswith("humanoid")
    assert cfg.agent.std_schedule.duration_steps == noise_decay_steps
    assert (cfg.batch_size, cfg.n_step) == ((512, 1) if walker else (256, 3))
    assert (cfg.lr, cfg.agent.trunk_dim) == ((8e-5, 100) if humanoid else (1e-4, 50))
    assert cfg.replay.capacity_steps == (100_000 if task == "quadruped_run" else 1_000_000)
    assert (cfg.num_random_steps, cfg.update_every_steps, cfg.agent.noise_clip, cfg.agent.tau) == (2000, 2, 0.3, 0.01)
    assert (cfg.agent.std_schedule.initial, cfg.agent.std_schedule.final) == (1.0, 0.1)


@pytest.mark.parametrize(
    ("head", "option", "actor", "critic"),
    [
        ("mlp2", "num_hidden_layers", 2, 2),
        ("mlp4", "num_hidden_layers", 4, 4),
        ("modern2", "num_blocks", 1, 1),
        ("modern4", "num_blocks", 1, 3),
        ("mlp_ln", "num_hidden_layers", 2, 2),
        ("d2rl", "num_hidden_layers", 4, 4),
        ("simba", "num_blocks", 1, 2),
        ("bronet", "num_blocks", 1, 2),
    ],
)
def test_head_depths(published, head, option, actor, critic):
    cfg = published(f"head={head}")
    assert (cfg.head.actor[option], cfg.head.critic[option]) == (actor, critic)
    assert cfg.head.width == 1024


def test_actor_and_critic_are_adjustable_apart(published):
    cfg = published("head.width=64", "+head.actor.width=32", "head.critic.num_blocks=4", "+head.actor.expansion=3")
    actor, critic = (build_head(cfg.head, network).keywords for network in ("actor", "critic"))
    assert (actor["width"], critic["width"]) == (32, 64)
    assert (actor["num_blocks"], critic["num_blocks"]) == (1, 4)
    assert (actor["expansion"], critic["expansion"]) == (3, 2)


@pytest.mark.parametrize("head", GROUPS["head"])
def test_penultimate_normalization_is_one_switch_of_every_head(published, head):
    for pnorm in (False, True):
        cfg = published(f"head={head}", f"head.pnorm={str(pnorm).lower()}")
        assert [build_head(cfg.head, network).keywords["pnorm"] for network in ("actor", "critic")] == [pnorm] * 2


def test_what_the_user_says_beats_task_and_preset(published):
    cfg = published(
        "task=walker_walk", "preset=laptop", "batch_size=7", "lr=0.5", "agent.std_schedule.duration_steps=11"
    )
    assert (cfg.batch_size, cfg.lr, cfg.agent.std_schedule.duration_steps) == (7, 0.5, 11)


@pytest.mark.parametrize("agent", GROUPS["agent"])
def test_the_laptop_preset_changes_sizes_and_rates_alone(published, agent):
    full, laptop = (_leaves(published(f"agent={agent}", f"preset={preset}")) for preset in ("published", "laptop"))
    assert full.keys() == laptop.keys()
    sizes = {"env.image_size", "env.shadows", "env.reflections", "augmentation.pad", "agent.num_filters",
             "head.width", "batch_size"}  # fmt: skip
    rates = {"lr", "agent.tau", "n_step", "update_every_steps", "num_train_frames", "num_random_steps",
             "agent.std_schedule.duration_steps"}  # fmt: skip
    changed = {name for name in full if full[name] != laptop[name]} - {"run_suffix"}
    assert changed <= sizes | rates
    if agent == "drq":
        ratio = "agent.actor_update_every_steps", "update_every_steps"
        assert laptop[ratio[0]] / laptop[ratio[1]] == full[ratio[0]] / full[ratio[1]]


def _leaves(cfg, prefix=""):
    found = {}
    for key, value in cfg.items():
        found |= (
            _leaves(value, f"{prefix}{key}.") if isinstance(value, dict | DictConfig) else {f"{prefix}{key}": value}
        )
    return found
