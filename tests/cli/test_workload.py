"""The rows of profiles and benchmarks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import drq_sn
from drq_sn.agents import base
from drq_sn.cli.workload import (
    apply_device_settings,
    build_profiler,
    build_row,
    build_warm_agent,
    check_choices,
    row_config,
)
from drq_sn.envs import make_env
from drq_sn.validation import InvalidInput

TINY = [
    "task=synthetic_point",
    "env.image_size=24",
    "head.width=16",
    "agent.num_filters=4",
    "device=cpu",
    "num_threads=1",
]


def test_a_measured_update_iterates_as_often_as_most_updates_of_a_run(configure, batch, monkeypatch):
    iterations = []
    agent = build_warm_agent(
        configure("agent=drqv2", "normalizer=spectral"), make_env("synthetic_point", image_size=24), torch.device("cpu")
    )
    monkeypatch.setattr(base, "power_iterate_", lambda layers, num_iterations: iterations.append(num_iterations))
    agent.update(batch, step=0)
    assert max(iterations) == 2


def test_a_row_has_a_worker_of_this_code_with_its_options_last():
    row = build_row("bench", {"head": "mlp2", "batch_size": 4}, ["batch_size=8", "seed=2"], details=False)
    assert row.command[0] == sys.executable
    config_name, *overrides = row.command[3:]
    assert (row.code, row.prepare, row.title) == (Path(drq_sn.__file__).parents[1], {"details": False}, "mlp2 4")
    assert row_config(config_name, overrides).batch_size == 4


def test_a_worker_fills_the_replay_and_counts_operations_of_its_row():
    flops = [
        build_profiler("bench", [*TINY, "replay_steps=150", "head=mlp2", "normalizer=none", f"batch_size={size}"])
        .prepare(details=False)["flops_per_update"]
        for size in (2, 4)
    ]  # fmt: skip
    assert flops[1] == 2 * flops[0]


def test_null_takes_the_devices_default():
    for device, expected in {"cpu": {"a": [1], "b": 3}, "cuda": {"a": [5], "b": 3}}.items():
        cfg = OmegaConf.create(
            {"a": None, "b": 3, "device_settings": {"cpu": {"a": [1], "b": 2}, "cuda": {"a": [5], "b": 6}}}
        )
        apply_device_settings(cfg, torch.device(device))
        assert {name: cfg[name] for name in "ab"} == expected


@pytest.mark.parametrize(
    ("heads", "overrides", "message"),
    [
        (["mlp2", "mlp9"], [], "unknown heads 'mlp9'; did you mean"),
        ([], [], "number of heads must be an integer >= 1, got 0"),
        (["mlp2"], ["head=mlp4"], "head=mlp4: this command takes a list, heads=[mlp4]"),
    ],
)
def test_list_options_take_choices_of_their_group(heads, overrides, message):
    with pytest.raises(InvalidInput, match=re.escape(message)):
        check_choices(OmegaConf.create({"heads": heads}), {"heads": "head"}, overrides)


def test_list_options_take_one_choice_or_several():
    for value, expected in {("mlp2", "mlp4", "mlp2"): ["mlp2", "mlp4"], "mlp2": ["mlp2"]}.items():
        cfg = OmegaConf.create({"heads": list(value) if isinstance(value, tuple) else value})
        check_choices(cfg, {"heads": "head"}, ["heads=mlp2"])
        assert cfg.heads == expected
