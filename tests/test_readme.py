"""The examples of the README run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from torch import Tensor, nn

import drq_sn.networks.heads
from drq_sn.cli import train
from drq_sn.cli.config.build import build_agent
from drq_sn.cli.running.run import run
from drq_sn.envs import make_env
from tests.builders import ROOT, invoke

README = (ROOT / "README.md").read_text()
(HEAD,) = re.findall(r"```python\n(class Bottleneck.*?)```", README, re.S)
(HEAD_FILE,) = re.findall(r"```yaml\n(_target_.*?)```", README, re.S)
GO_THROUGH_HEADS = [  # the tests for which a new head makes a difference
    "tests/agents/test_grid.py",
    "tests/cli/config/test_configuration.py",
    "tests/cli/config/test_identify.py",
    "tests/cli/config/test_reference.py",
    "tests/test_options.py",
]
NOT_COPIED = (".*", "build", "dist", "runs", "results", "__pycache__", "*.egg-info")


def test_the_python_example_runs(configure, tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(import drq_sn.*?)```", README, re.S)
    assert len([line for line in example.splitlines() if line and not line.startswith("import")]) == 5
    folder = re.search(r'run = "(.*?)"', example).group(1)
    small = ["preset=laptop", "env.image_size=48", "batch_size=4", "head.width=8", "num_eval_episodes=1"]
    short = ["action_repeat=20", "num_train_frames=160", "eval_every_frames=2000", "num_random_steps=4", "n_step=3"]
    run(configure("task=cartpole_balance", *small, *short, run_dir=folder))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["time_step"].last()
    assert names["env"].num_repeats == 20  # the run's own


def test_the_head_example_trains(configure, batch, monkeypatch):
    names = {"nn": nn, "Tensor": Tensor}
    exec(compile(HEAD, "README.md", "exec"), names)
    monkeypatch.setattr(drq_sn.networks.heads, "Bottleneck", names["Bottleneck"], raising=False)
    cfg = configure()
    cfg.head = yaml.safe_load(HEAD_FILE)
    agent = build_agent(cfg, make_env("synthetic_point", image_size=24), torch.device("cpu"))
    assert torch.isfinite(agent.update(batch, 0)["critic_loss"])


@pytest.mark.slow  # the tests of a second checkout
def test_a_checkout_with_the_head_example_passes_its_tests(tmp_path):
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    with (copy / "drq_sn" / "networks" / "heads.py").open("a") as file:
        file.write(f"\n\n{HEAD}")
    (copy / "cfg" / "head" / "bottleneck.yaml").write_text(HEAD_FILE)
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "tools/options.py"], cwd=copy, env=environment, check=True)  # make options
    command = [sys.executable, "-m", "pytest", "--verbose", *GO_THROUGH_HEADS]
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "test_every_combination_trains_and_resumes[drqv2-bottleneck-spectral] PASSED" in result.stdout


def test_the_command_runs_from_anywhere(tmp_path, monkeypatch):
    """It finds its configuration outside the checkout too."""
    monkeypatch.chdir(tmp_path)
    result = invoke(train.main, "--cfg", "job")
    assert result.returncode == 0, result.stderr
    assert "num_train_frames: 500000" in result.stdout
    assert list(tmp_path.iterdir()) == []
