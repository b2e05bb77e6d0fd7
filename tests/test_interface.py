"""The Python interface: what is exported, docs/python.md, training with a callback, acting without a simulator."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import drq_sn
from drq_sn.cli.config.build import config_dir
from drq_sn.envs.specs import Specs, parse_specs, specs_of
from drq_sn.types import Evaluation
from drq_sn.validation import InvalidInput
from tests.builders import ROOT, TINY, training_result

PAGE = (ROOT / "docs" / "python.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SHORT = [*(option for option in TINY if "diagnose" not in option and "every_frames" not in option)]
SHORT += ["diagnose_states=8", "eval_every_frames=200", "video_every_frames=0"]
LOAD = """
import sys
for name in ("dm_control", "mujoco", "OpenGL", "gymnasium"):
    sys.modules[name] = None  # importing it fails
import numpy as np, drq_sn
agent = drq_sn.load_agent(sys.argv[1], device="cpu")
print(agent.predict(np.zeros((3, 9, 24, 24), np.uint8)).shape)
"""


def test_everything_exported_exists_has_a_docstring_and_is_on_the_page():
    for name in drq_sn.__all__:
        exported = getattr(drq_sn, name)
        assert inspect.getdoc(exported), name
        assert name in inspect.getdoc(drq_sn), name
        assert re.search(rf"`{name}\b", PAGE), name
        assert name in dir(drq_sn)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = drq_sn.nothing


def test_type_hints_are_shipped():
    assert (ROOT / "drq_sn" / "py.typed").is_file()
    assert "drq_sn = py.typed" in (ROOT / "setup.cfg").read_text()


def test_a_batch_gets_the_actions_of_its_observations(agent_of):
    agent = agent_of()
    obs = np.random.default_rng(0).integers(0, 256, (5, 9, 24, 24), np.uint8)
    actions = agent.predict(obs)
    assert (actions.shape, actions.dtype) == ((5, 2), np.float32)
    np.testing.assert_allclose(actions, [agent.act(each) for each in obs], atol=1e-6)
    np.testing.assert_array_equal(actions, agent.predict(torch.from_numpy(obs)))
    for wrong in (obs[0], obs[:, :3], obs.astype(np.float32)):
        with pytest.raises(InvalidInput, match=r"obs must be uint8 of shape \(B, 9, 24, 24\), pixels 0 to 255, got"):
            agent.predict(wrong)


def test_specs_are_those_of_an_environment_and_survive_a_file():
    specs = specs_of(drq_sn.make_env("synthetic_point", image_size=24))
    assert specs == Specs((9, 24, 24), (2,)) == specs_of(specs) == parse_specs("specs", specs._asdict())
    assert specs_of(Specs((3, 8, 8), (), 6)).num_actions == 6
    for wrong in (None, {"obs_shape": (1, 2)}, {"obs_shape": (9, 24, 24), "action_shape": (-1,)}):
        with pytest.raises(InvalidInput, match=r"specs\."):
            parse_specs("specs", wrong)


def test_train_needs_the_main_thread_and_valid_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    errors = []

    def call():
        try:
            drq_sn.train()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])
    with pytest.raises(InvalidInput, match=r"did you mean .*'mlp2'"):
        drq_sn.train("head=mlp3")
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_callback_hears_of_a_diverged_run_too(tmp_path, monkeypatch):
    monkeypatch.setattr(drq_sn.agents.DrQV2, "is_finite", lambda agent: agent.num_updates < 30)
    for _ in range(2):
        frames = []
        with pytest.raises(drq_sn.TrainingDiverged):
            drq_sn.train(*SHORT, f"run_dir={tmp_path}/run", callback=lambda each: frames.append(each.frame))  # noqa: B023
        assert frames == [0, 200]


@pytest.mark.process
@pytest.mark.slow
def test_a_callback_hears_of_every_evaluation_once_also_after_a_stop(tmp_path):
    """Called from within another Hydra application, which finds its own configuration afterwards."""
    run_dir, heard = tmp_path / "run", []

    def stop(evaluation):
        heard.append(evaluation)
        if len(heard) == 2:
            raise KeyError("enough")

    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "main.yaml").write_text("x: 1\n")
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path / "theirs")):
        with pytest.raises(KeyError, match="enough"):
            drq_sn.train(*SHORT, f"run_dir={run_dir}", callback=stop)
        assert compose("main").x == 1
    assert json.loads((run_dir / "run.json").read_text())["status"] == "interrupted"
    again = []
    assert drq_sn.train(*SHORT, f"run_dir={run_dir}", callback=again.append) == run_dir
    assert again[:2] == heard
    assert [evaluation.frame for evaluation in again] == [0, 200, 400]
    assert all(isinstance(each, Evaluation) and len(each.returns) == 2 for each in again)
    assert again[0].episode_return == pytest.approx(sum(again[0].returns) / 2)
    other = drq_sn.train(*SHORT, f"run_dir={tmp_path / 'other'}")
    assert training_result(other)[1:] == training_result(run_dir)[1:]
    finished = []
    drq_sn.train(*SHORT, f"run_dir={run_dir}", callback=finished.append)
    assert finished == again
    assert not GlobalHydra.instance().is_initialized()
    assert config_dir().is_dir()
    result = subprocess.run([sys.executable, "-c", LOAD, run_dir], cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("(3, 2)\n", 0), result.stderr
    weights = torch.load(run_dir / "weights.pt")
    del weights["specs"]  # as earlier versions wrote it
    torch.save(weights, run_dir / "weights.pt")
    assert drq_sn.load_agent(run_dir, "cpu").act(np.zeros((9, 24, 24), np.uint8)).shape == (2,)


@pytest.mark.process
@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = [option for option in SHORT if not option.startswith("task=")]
    calls = [line for block in CODE for line in block.splitlines() if "drq_sn.train(" in line]
    assert len(calls) == 2
    names = {}
    for block in CODE:
        for option in ('"task=cartpole_balance", "preset=laptop"', '"task=cartpole_balance"'):
            if option in block:
                block = block.replace(option, ", ".join(map(repr, ["task=synthetic_point", *short])))
                break
        exec(block.replace('"cartpole_balance"', '"synthetic_point"'), names)
    output = capsys.readouterr().out
    assert "lr must be a number > 0, got -1" in output
    assert names["actions"].shape == (16, 2)
    assert names["observation"].shape == (9, 64, 64)
