"""Every option of every group composes and trains, and what the user sets beats task and preset."""

from __future__ import annotations

import itertools

import pytest
import torch

from drq_sn.cli.config.build import build_agent, build_head, build_loop, build_replay
from drq_sn.cli.config.overrides import group_options, initialized
from drq_sn.envs import make_env
from tests.builders import compose_config, resolved_options

with initialized():
    GROUPS = group_options()
# tests/agents/test_grid.py and test_runtime.py, tests/envs
TESTED_ELSEWHERE = {"agent", "head", "normalizer", "runtime", "env"}
ACTOR_CRITICS = ("drq", "drqv2")  # tests/cli/running/test_minatar.py has the others
NAMED = {
    "env": {"gymnasium", "minatar", "suite"},
    "agent": {"c51", "dqn", "drq", "drqv2"},
    "head": {"bronet", "d2rl", "mlp2", "mlp4", "mlp_ln", "modern2", "modern4", "none", "simba"},
    "normalizer": {"none", "spectral", "div_out", "div_grad", "mul_eps", "nap", "weight_norm"},
    "penalty": {"gradient", "none"},
    "lr_schedule": {"constant", "linear", "cosine"},
    "augmentation": {"random_shift", "none", "rotation", "flip", "cutout", "intensity", "color_jitter"},
    "logger": {"none"},
    "preset": {"laptop", "published"},
}  # in the README and docs/; there may be more
OPTIONS = [(group, option) for group in GROUPS if group not in TESTED_ELSEWHERE for option in GROUPS[group]]


def options_of_agents():
    """Every option with both agents; in the default suite the agents alternate."""
    for (i, names), (k, agent) in itertools.product(enumerate(OPTIONS), enumerate(ACTOR_CRITICS)):
        yield pytest.param(agent, *names, marks=[] if i % 2 == k else pytest.mark.slow)


def test_the_choices_that_the_readme_names_exist():
    assert [(group, name) for group, names in NAMED.items() for name in names if name not in GROUPS[group]] == []


@pytest.mark.parametrize(("agent", "group", "option"), list(options_of_agents()))
def test_every_option_composes_and_trains(configure, batch, agent, group, option):
    cfg = configure(f"agent={agent}", f"{group}={option}", "env.shadows=true")
    env = make_env("synthetic_point", image_size=24)
    built = build_agent(cfg, env, torch.device("cpu"))
    assert set(built.update(batch, step=0)) <= set(built.metric_names)
    assert build_replay(cfg, env, torch.device("cpu")).batch_size == 8
    assert build_loop(cfg).num_steps == 100


def test_actor_and_critic_are_adjustable_apart():
    cfg = compose_config("head.width=64", "+head.actor.width=32", "head.critic.num_blocks=4", "+head.actor.expansion=3")
    actor, critic = (build_head(cfg.head, network).keywords for network in ("actor", "critic"))
    assert actor == {"width": 32, "pnorm": False, "num_blocks": 1, "expansion": 3}
    assert critic == {"width": 64, "pnorm": False, "num_blocks": 4, "expansion": 2}


@pytest.mark.parametrize("head", sorted(NAMED["head"] - {"none"}))
def test_penultimate_normalization_is_one_switch_of_the_heads(head):
    cfg = compose_config(f"head={head}", "head.pnorm=true")
    assert all(build_head(cfg.head, network).keywords["pnorm"] for network in ("actor", "critic"))


def test_what_the_user_sets_beats_task_and_preset():
    cfg = compose_config(
        "task=walker_walk", "preset=laptop", "batch_size=7", "lr=0.5", "agent.std_schedule.duration_steps=11"
    )
    assert (cfg.batch_size, cfg.lr, cfg.agent.std_schedule.duration_steps) == (7, 0.5, 11)


@pytest.mark.parametrize("agent", GROUPS["agent"])
def test_the_laptop_preset_changes_sizes_and_rates_alone(agent):
    published, laptop = (resolved_options(f"agent={agent}", f"preset={preset}") for preset in ("published", "laptop"))
    assert published.keys() == laptop.keys()
    assert {name for name in published if published[name] != laptop[name]} <= {
        "run_suffix", "num_train_frames",
        "eval_every_frames",
        # sizes
        "env.image_size", "env.shadows", "env.reflections", "augmentation.pad", "agent.num_filters", "head.width",
        "batch_size",
        # rates
        "lr", "agent.tau", "n_step", "update_every_steps", "num_random_steps", "agent.std_schedule.duration_steps",
    }  # fmt: skip
    if agent == "drq":
        period = "agent.actor_update_every_steps", "update_every_steps"
        assert laptop[period[0]] / laptop[period[1]] == published[period[0]] / published[period[1]]
