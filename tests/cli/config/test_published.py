"""The published setting of each agent, every resolved option literally (/docs/method.md cites the sources)."""

from __future__ import annotations

import pytest

from drq_sn.cli.config.build import build_head
from tests.builders import compose_config, resolved_options

SHARED = {
    # learning: specification sections 5 and 6
    "gamma": 0.99,
    "agent.adam_eps": 1e-8,  # PyTorch's default, as in both published implementations
    "agent.tau": 0.01,
    "agent.trunk_dim": 50,
    "agent.num_filters": 32,
    "lr_schedule._target_": "Constant",
    "lr_schedule.value": 1.0,
    "augmentation._target_": "RandomShift",
    "augmentation.pad": 4,
    "penalty._target_": "NoPenalty",
    # spectral normalization
    "normalizer._target_": "Spectral",
    "normalizer.networks": ["actor", "critic"],
    "normalizer.layers": "inner",
    "normalizer.conv_layers": "none",
    "normalizer.trunk": False,
    "normalizer.minimum_sigma": None,
    "normalizer.gradient_through_sigma": True,
    "normalizer.num_iterations": 1,
    # environment and length
    "task": "cheetah_run",
    "action_repeat": 2,
    "env._target_": "make_env",
    "env.image_size": 84,
    "env.frame_stack": 3,
    "env.camera": None,
    "env.shadows": True,
    "env.reflections": True,
    "env.shadow_map_size": None,
    "env.time_limit_frames": None,
    "num_train_frames": 500_000,
    "eval_every_frames": 10_000,
    "num_eval_episodes": 10,
    # what does not change results
    "seed": 1,
    "num_eval_processes": None,
    "diagnose_states": 512,
    "video_every_frames": 50_000,
    "checkpoint_every_seconds": 300,
    "checkpoint_every_frames": None,
    "keep_checkpoint": False,
    "fresh": False,
    "init_from": None,
    "init_networks": "all",
    "env_limit_seconds": 60,
    "device": "auto",
    "logger._target_": "NullLogger",
    "cores": None,
    "num_threads": None,
    "matmul_precision": "highest",
    "encoder_dtype": "float32",
    "max_diverged_episodes": 1000,
    "runtime._target_": "Eager",
    "replay.keep_truncated": False,
    "replay.storage": "auto",
    "run_suffix": "",
}
PUBLISHED = {
    "drq": SHARED
    | {
        "batch_size": 512,
        "n_step": 1,
        "lr": 1e-3,
        "replay.capacity_steps": 100_000,
        "num_random_steps": 1000,
        "update_every_steps": 1,
        "agent._target_": "DrQ",
        "agent.pixel_offset": 0.0,
        "agent.initial_temperature": 0.1,
        "agent.actor_update_every_steps": 2,
    },
    "drqv2": SHARED
    | {
        "batch_size": 256,
        "n_step": 3,
        "lr": 1e-4,
        "replay.capacity_steps": 1_000_000,
        "num_random_steps": 2000,
        "update_every_steps": 2,
        "agent._target_": "DrQV2",
        "agent.pixel_offset": -0.5,
        "agent.noise_clip": 0.3,
        "agent.std_schedule._target_": "Linear",
        "agent.std_schedule.initial": 1.0,
        "agent.std_schedule.final": 0.1,
        "agent.std_schedule.duration_steps": 500_000,
    },
}

# what DrQ-v2 changes per task (section 6)
EASY = {"agent.std_schedule.duration_steps": 100_000}
HARD = {"agent.std_schedule.duration_steps": 2_000_000}
WALKER = {"batch_size": 512, "n_step": 1}
HUMANOID = HARD | {"lr": 8e-5, "agent.trunk_dim": 100}
TASKS = {
    "cartpole_balance": EASY,
    "cartpole_balance_sparse": EASY,
    "cartpole_swingup": EASY,
    "cup_catch": EASY,
    "ball_in_cup_catch": EASY,
    "finger_spin": EASY,
    "hopper_stand": EASY,
    "pendulum_swingup": EASY,
    "walker_stand": EASY | WALKER,
    "walker_walk": EASY | WALKER,
    "acrobot_swingup": {},
    "cartpole_swingup_sparse": {},
    "cheetah_run": {},
    "finger_turn_easy": {},
    "finger_turn_hard": {},
    "hopper_hop": {},
    "quadruped_run": {"replay.capacity_steps": 100_000},
    "quadruped_walk": {},
    "reach_duplo": {},
    "reacher_easy": {},
    "reacher_hard": {},
    "walker_run": WALKER,
    "humanoid_stand": HUMANOID,
    "humanoid_walk": HUMANOID,
    "humanoid_run": HUMANOID,
}

# class, actor and critic (section 3 and the papers that cfg/head cites)
HEADS = {
    "mlp2": ("MLPHead", {"num_hidden_layers": 2}, {"num_hidden_layers": 2}),
    "mlp4": ("MLPHead", {"num_hidden_layers": 4}, {"num_hidden_layers": 4}),
    "modern2": ("ModernHead", {"num_blocks": 1, "expansion": 2}, {"num_blocks": 1, "expansion": 2}),
    "modern4": ("ModernHead", {"num_blocks": 1, "expansion": 2}, {"num_blocks": 3, "expansion": 2}),
    "mlp_ln": ("LayerNormMLPHead", {"num_hidden_layers": 2}, {"num_hidden_layers": 2}),
    "d2rl": ("D2RLHead", {"num_hidden_layers": 4}, {"num_hidden_layers": 4}),
    "simba": ("SimBaHead", {"num_blocks": 1, "expansion": 4}, {"num_blocks": 2, "expansion": 4}),
    "bronet": ("BroNetHead", {"num_blocks": 1}, {"num_blocks": 2}),
}


def published_values(agent, task="cheetah_run"):
    """Dotted name -> value, classes by name alone; heads have a test of their own."""
    return {
        name: value.rpartition(".")[2] if name.endswith("_target_") else value
        for name, value in resolved_options(f"agent={agent}", task=task).items()
        if not name.startswith(("tuned.", "head.", "run_dir"))
    }


@pytest.mark.parametrize("agent", PUBLISHED)
def test_every_option_has_its_published_value(agent):
    assert published_values(agent) == PUBLISHED[agent]


@pytest.mark.parametrize("task", TASKS)
def test_drqv2_changes_these_options_per_task(task):
    assert published_values("drqv2", task) == PUBLISHED["drqv2"] | {"task": task} | TASKS[task]


@pytest.mark.parametrize("task", ["walker_walk", "quadruped_run", "humanoid_run"])
def test_drq_is_the_same_for_every_task(task):
    assert published_values("drq", task) == PUBLISHED["drq"] | {"task": task}


@pytest.mark.parametrize("head", HEADS)
def test_heads_have_their_published_sizes(head):
    name, *sizes = HEADS[head]
    cfg = compose_config(f"head={head}")
    built = [build_head(cfg.head, network) for network in ("actor", "critic")]
    assert [factory.func.__name__ for factory in built] == [name, name]
    assert [factory.keywords for factory in built] == [{"width": 1024, "pnorm": False, **size} for size in sizes]


def test_modern4_with_spectral_normalization_is_the_default():
    assert compose_config().head == compose_config("head=modern4").head
