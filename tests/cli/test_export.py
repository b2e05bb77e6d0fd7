"""The exported policy acts like the agent, and says what it takes and gives; skipped without drq_sn[export]."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from drq_sn.cli import export
from drq_sn.cli.config.saved import load_agent
from drq_sn.cli.running.run import run
from drq_sn.runs.files import load_weights
from tests.builders import compose_config, invoke

needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in export.EXTRA), reason="needs drq_sn[export]"
)
UNTRAINED = ["num_train_frames=2", "diagnose_states=0", "num_eval_episodes=1"]


@needs_extra
@pytest.mark.parametrize(
    "overrides",
    [
        ["agent=drqv2", "normalizer.conv_layers=all"],
        ["agent=drq", "head=simba", "normalizer=none"],
        *(
            pytest.param([f"normalizer={name}"], marks=pytest.mark.slow)
            for name in ("div_out", "div_grad", "mul_eps", "nap", "weight_norm")
        ),
        *(
            pytest.param([f"head={name}"], marks=pytest.mark.slow)
            for name in ("mlp2", "mlp4", "modern2", "mlp_ln", "d2rl", "bronet")
        ),
    ],
)
def test_the_file_acts_like_the_agent_and_has_its_contract(configure, tmp_path, overrides):
    import onnxruntime

    run(configure(*UNTRAINED, *overrides))
    out = tmp_path / "new" / "policy.onnx"
    result = invoke(export.main, f"run={tmp_path / 'run'}", f"out={out}", "weights=best")
    assert result.returncode == 0, result.stderr
    frame = load_weights(tmp_path / "run", "cpu", "best")["frame"]
    assert f"{out}: policy of {tmp_path / 'run'} at frame {frame}" in result.stdout
    session = onnxruntime.InferenceSession(out)
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("observation", "tensor(uint8)", [1, 9, 24, 24])
    assert (returned.name, returned.type, returned.shape) == ("action", "tensor(float)", [1, 2])
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["observation"].startswith("uint8 (1, 9, 24, 24): the last 3 frames, oldest first")
    assert metadata["action"].startswith("float32 (1, 2) in [-1, 1]")
    assert (metadata["task"], metadata["frame"]) == ("synthetic_point", str(frame))
    obs = np.random.default_rng(0).integers(0, 256, (9, 24, 24), np.uint8)
    expected = load_agent(tmp_path / "run", "cpu", "best").act(obs, step=0, explore=False)
    assert session.run(None, {"observation": obs[None]})[0][0] == pytest.approx(expected, abs=1e-5)


@needs_extra
def test_a_policy_that_acts_differently_is_not_written(configure, tmp_path, monkeypatch):
    run(configure(*UNTRAINED))
    monkeypatch.setattr(export.Policy, "forward", lambda self, obs: -self.mean_action(self.encoder(obs)))
    with pytest.raises(RuntimeError, match=r"differ by .* from the agent's; not written"):
        export.export(compose_config(f"run={tmp_path / 'run'}", "seed=1", config="export"))
    assert not list((tmp_path / "run").glob("*.onnx"))


def test_without_the_extra_the_remedy_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else name)
    result = invoke(export.main, f"run={tmp_path}")
    assert result.returncode == 2
    assert result.stderr == "error: onnxruntime not installed; run pip install 'drq_sn[export]'\n"
