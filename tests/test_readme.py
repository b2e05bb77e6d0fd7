"""The examples of the README run."""

from __future__ import annotations

import re

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


def test_the_python_example_runs(configure, tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(import drq_sn.*?)```", README, re.S)
    assert len([line for line in example.splitlines() if line and not line.startswith("import")]) == 5
    folder = re.search(r'run = "(.*?)"', example).group(1)
    small = ["preset=laptop", "env.image_size=48", "batch_size=4", "head.width=8", "num_eval_episodes=1"]
    short = ["action_repeat=20", "num_train_frames=160", "eval_every_frames=2000", "num_random_steps=4"]
    run(configure("task=cartpole_balance", *small, *short, run_dir=folder))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["time_step"].last()
    assert names["env"].num_repeats == 20  # the run's own


def test_the_head_example_trains(configure, batch, monkeypatch):
    (source,) = re.findall(r"```python\n(class Bottleneck.*?)```", README, re.S)
    (text,) = re.findall(r"```yaml\n(_target_.*?)```", README, re.S)
    names = {"nn": nn, "Tensor": Tensor}
    exec(compile(source, "README.md", "exec"), names)
    monkeypatch.setattr(drq_sn.networks.heads, "Bottleneck", names["Bottleneck"], raising=False)
    cfg = configure("normalizer=none")
    cfg.head = yaml.safe_load(text)
    agent = build_agent(cfg, make_env("synthetic_point", image_size=24), torch.device("cpu"))
    assert torch.isfinite(agent.update(batch, 0)["critic_loss"])


def test_the_command_runs_from_anywhere(tmp_path, monkeypatch):
    """It finds its configuration outside the checkout too."""
    monkeypatch.chdir(tmp_path)
    result = invoke(train.main, "--cfg", "job")
    assert result.returncode == 0, result.stderr
    assert "num_train_frames: 500000" in result.stdout
    assert list(tmp_path.iterdir()) == []
