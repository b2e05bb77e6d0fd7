"""Run directories of other people: nothing that they name is imported or called, and every refusal is one line."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

import drq_sn
from drq_sn.cli import evaluate, export, fit_replay
from drq_sn.cli.config.build import build_agent, build_env, partial_env
from drq_sn.cli.config.saved import find_targets, initialize_agent, load_config, read_config
from drq_sn.runs.files import WeightsWriter, load_weights
from drq_sn.validation import InvalidInput
from tests.builders import ROOT, TINY, Payload, compose_config, invoke, write_config

SECRET = "DRQ_SN_TEST_SECRET"
COMMANDS = {"evaluate": evaluate, "export": export, "fit_replay": fit_replay}
MODULE = """
from pathlib import Path
Path({sentinel!r}).touch()
from drq_sn.envs.synthetic import PointMass
from drq_sn.networks.heads import MLPHead
class Head(MLPHead): pass
def make(seed=0): return PointMass(seed)
"""


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    """A file that exists if anything hostile ran; importing the module `hostile` creates it."""
    path = tmp_path / "ran"
    (tmp_path / "hostile.py").write_text(MODULE.format(sentinel=str(path)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hostile", raising=False)
    yield path
    sys.modules.pop("hostile", None)


@pytest.fixture
def saved(tmp_path):
    """`saved({"head.actor._target_": "os.system"}, ...)` -> a run directory whose configuration has these values."""

    def write(values=None, *overrides):
        run_dir = write_config(tmp_path / "run", [*TINY, *overrides])
        options = yaml.safe_load((run_dir / "config.yaml").read_text())
        for name, value in (values or {}).items():
            *parents, last = name.split(".")
            node = options
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
        (run_dir / "config.yaml").write_text(yaml.safe_dump(options))
        return run_dir

    return write


@pytest.fixture
def with_weights(saved):
    """Like `saved`, with the weights of an untrained agent of these overrides."""

    def write(values=None, *overrides):
        run_dir = saved(None, *overrides)
        cfg = read_config(run_dir)
        agent = build_agent(cfg, build_env(cfg), torch.device("cpu"))
        WeightsWriter(run_dir).save(agent.networks.state_dict(), frame=0, episode_return=1.0)
        return saved(values, *overrides)

    return write


def touch(sentinel):
    return {"_target_": "os.system", "command": f"touch {sentinel}"}


HOSTILE = {
    "torch.load": lambda path: {"normalizer": {"_target_": "torch.load", "f": str(path)}},
    "eval": lambda path: {"penalty": {"_target_": "builtins.eval", "_args_": [f"open({str(path)!r}, 'w')"]}},
    "system": lambda path: {"agent": touch(path)},
    "nested": lambda path: {"agent.std_schedule": touch(path)},
    "deeply nested": lambda path: {"augmentation.transform": {"a": {"b": touch(path)}}},
    "in a list": lambda path: {"augmentation": {"_target_": "torch.nn.Sequential", "_args_": [touch(path)]}},
    "in a list of a list": lambda path: {"lr_schedule.milestones": [[1, [touch(path)]]]},
    "not recursive": lambda path: {"lr_schedule": {"_recursive_": False, "_convert_": "all", "x": touch(path)}},
    "partial": lambda path: {"head.critic": {"_partial_": True, **touch(path)}},
    "a method by name": lambda path: {"head.activation": {"_target_": "hydra.utils.get_method", "path": "os.system"}},
    "a module": lambda path: {"head._target_": "hostile.Head"},
    "an environment": lambda path: {"env._target_": "hostile.make"},
    "an argument of make_env": lambda path: {"env.maker": "hostile.make"},
    "a Gymnasium module": lambda path: {"env._target_": "drq_sn.envs.gymnasium.make_env", "task": "hostile:Env-v0"},
    "a Gymnasium argument": lambda path: {"env._target_": "drq_sn.envs.gymnasium.make_env", "env.id": "hostile:X-v0"},
    "an unhashable target": lambda path: {"head._target_": [touch(path)]},
    "no target": lambda path: {"runtime._target_": None},
    "the launcher": lambda path: {"runtime._target_": "drq_sn.cli.launching.local.LocalLauncher"},
    "an unknown group": lambda path: {"hydra.launcher": touch(path)},
    "an almost known target": lambda path: {"agent._target_": "drq_sn.agents.drq.DrQ"},
    "a space": lambda path: {"agent._target_": "drq_sn.agents.DrQ "},
    "an interpolated target": lambda path: {"agent._target_": "${oc.env:HOME}"},
    "an interpolation": lambda path: {"task": "${oc.env:" + SECRET + "}"},
    "an interpolation in a list": lambda path: {"normalizer.layers": ["a", "${oc.env:" + SECRET + "}"]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_saved_configuration_names_is_not_imported_or_called(saved, sentinel, monkeypatch, name):
    monkeypatch.setenv(SECRET, "hunter2")
    run_dir = saved(HOSTILE[name](sentinel))
    for load in (drq_sn.load_agent, drq_sn.load_env):
        with pytest.raises(InvalidInput) as error:
            load(run_dir)
        assert str(error.value).startswith(str(run_dir))
        assert "\n" not in str(error.value)
        assert "hunter2" not in str(error.value)
    assert not sentinel.exists()
    assert "hostile" not in sys.modules


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_it_with_one_line(saved, sentinel, tmp_path, monkeypatch, command):
    monkeypatch.setattr(export, "EXTRA", ())
    run_dir = saved({"head.critic": touch(sentinel)})
    before = sorted(run_dir.iterdir())
    out = [f"out_dir={tmp_path / 'out'}"] if command == "fit_replay" else []
    result = invoke(COMMANDS[command].main, f"run={run_dir}", *out)
    line = "head.critic._target_ must be a target of cfg/ or be named in trusted=[...] (docs/runs.md), got 'os.system'"
    assert (result.returncode, result.stderr) == (2, f"error: {run_dir / 'config.yaml'}: {line}\n")
    assert not sentinel.exists()
    assert sorted(run_dir.iterdir()) == before
    assert not (tmp_path / "out").exists()


def test_what_the_user_names_is_used(with_weights, sentinel):
    run_dir = with_weights({"head._target_": "hostile.Head", "env._target_": "hostile.make"}, "head=mlp2")
    trusted = ["hostile.Head", "hostile.make"]
    with pytest.raises(InvalidInput, match=r"got 'hostile\.make'"):
        drq_sn.load_agent(run_dir, "cpu", trusted=trusted[:1])
    assert not sentinel.exists()
    agent = drq_sn.load_agent(run_dir, "cpu", trusted=trusted)
    assert agent.act(np.zeros((9, 24, 24), np.uint8), 0, explore=False).shape == (2,)
    result = invoke(evaluate.main, f"run={run_dir}", "episodes=1", "device=cpu", f"trusted=[{','.join(trusted)}]")
    assert result.returncode == 0, result.stderr
    with pytest.raises(InvalidInput, match=r"trusted must be names such as \[my_robot.Gripper\], got \[3\]"):
        load_config(run_dir, 3)


def test_a_run_may_start_from_one_with_targets_of_its_own(with_weights, sentinel):
    source = with_weights({"head._target_": "hostile.Head"}, "head=mlp2")
    cfg = compose_config(*TINY, "head=mlp2", f"init_from={source}")
    cfg.run_dir = ""
    OmegaConf.resolve(cfg)
    agent = build_agent(cfg, build_env(cfg), torch.device("cpu"))
    with pytest.raises(InvalidInput, match=r"got 'hostile\.Head'"):
        initialize_agent(agent, cfg)
    cfg.head._target_ = "hostile.Head"  # as typed by the user
    assert initialize_agent(agent, cfg)["init_from"]["frame"] == 0


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_run_keeps_its_schedule_and_penalty(with_weights, schedule):
    run_dir = with_weights(None, f"lr_schedule={schedule}", "penalty=gradient")
    options = yaml.safe_load((run_dir / "config.yaml").read_text())
    cfg = OmegaConf.to_container(load_config(run_dir))
    assert (cfg["lr_schedule"], cfg["penalty"]) == (options["lr_schedule"], options["penalty"])
    drq_sn.load_agent(run_dir, "cpu")


def test_published_runs_and_every_choice_have_known_targets_only():
    configs = sorted((ROOT / "results").rglob("config.yaml"))
    assert configs
    for path in configs:
        load_config(path.parent)


def test_targets_are_found_everywhere():
    tree = {
        "a": [{"_target_": 1}, [{"b": {"_target_": {"_target_": 2}}}]],
        "task": "x:y",
        "env": {"p": ["m:n"]},
        "z": ":",
    }
    found = [("a.0._target_", 1), ("a.1.0.b._target_", {"_target_": 2}), ("task", "x:y"), ("env.p.0", "m:n")]
    assert list(find_targets(tree)) == found


def test_arguments_of_make_env_are_no_options():
    for name in ("task", "seed", "maker", "action_repeat"):
        cfg = compose_config(*TINY, f"+env.{name}=1")
        with pytest.raises(InvalidInput, match=rf"env\.{name} is not an option"):
            partial_env(cfg)


def test_a_module_in_the_run_directory_is_not_found(with_weights, sentinel, monkeypatch):
    """Not even from the run directory itself, where a name that is missing elsewhere would be found."""
    run_dir = with_weights()
    monkeypatch.chdir(run_dir)
    path = list(sys.path)
    drq_sn.load_agent(".", "cpu")
    assert sys.path == path


def test_the_payload_of_these_tests_works(sentinel):
    pickle.loads(pickle.dumps(Payload(sentinel)))
    assert sentinel.exists()


@pytest.mark.parametrize("name", ["last", "best"])
def test_weights_are_read_without_unpickling(saved, sentinel, name):
    run_dir = saved()
    path = run_dir / {"last": "weights.pt", "best": "best.pt"}[name]
    content = {"format": 1, "frame": 0, "episode_return": 0.0, "networks": {"a": Payload(sentinel)}}
    for data in (content, pickle.dumps(Payload(sentinel))):
        torch.save(data, path) if isinstance(data, dict) else path.write_bytes(data)
        result = invoke(evaluate.main, f"run={run_dir}", f"weights={name}", "device=cpu")
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
        assert result.stderr.startswith(f"error: {path} must hold plain tensors and numbers: ")
        with pytest.raises(InvalidInput):
            load_weights(run_dir, "cpu", name)
    assert not sentinel.exists()
