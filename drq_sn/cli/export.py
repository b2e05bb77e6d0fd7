"""`drq-sn export run=DIR [weights=best] [out=FILE]`: write a run's deterministic policy as an ONNX file."""

from __future__ import annotations

import contextlib
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from drq_sn import validation
from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.cli.config.command_line import run_composed
from drq_sn.cli.config.ranges import EXPORT, check_ranges
from drq_sn.cli.config.saved import build_saved_env, load_agent_and_frame, load_config
from drq_sn.cli.config.suitability import require_actor
from drq_sn.cli.running.exit_codes import run_command
from drq_sn.cli.running.run_dir import make_folder
from drq_sn.envs.wrappers import PixelStack
from drq_sn.runs.files import write_atomically

CONFIG_NAME = "export"
EXTRA = ("onnx", "onnxruntime", "onnxscript")
INPUT, OUTPUT = "observation", "action"
NUM_CHECKED = 50  # frames on which the file is compared with the agent
TOLERANCE = 1e-3  # of actions in [-1, 1]; float32 sums in another order differ by about 1e-6


class Policy(nn.Module):
    """The deterministic policy of an agent: stacked frames (B, C, H, W) uint8 -> actions (B, A) float32 in [-1, 1]."""

    def __init__(self, agent: ActorCriticAgent) -> None:
        super().__init__()
        self.encoder, self.actor, self.mean_action = agent.encoder, agent.actor, agent.mean_action

    def forward(self, obs: Tensor) -> Tensor:
        """Mean actions, as the agent's `act` without exploration."""
        return self.mean_action(self.encoder(obs)).float()


def export(cfg: DictConfig) -> Path:
    """Write the policy of a run, by default to its `policy.onnx`, and return the file.

    Before that, it is compared with the agent on rendered frames. `cfg` has the options in `cfg/export.yaml`.

    Raises:
        InvalidInput: without the extra's packages, or if the run has no weights or `out` cannot be written.
        RuntimeError: if the exported policy and the agent act differently; nothing is written.
    """
    check_ranges(cfg, EXPORT)
    validation.extra_installed("export", EXTRA)
    run_dir = Path(str(cfg.run))
    saved = load_config(run_dir, cfg.trusted)
    out = run_dir / "policy.onnx" if cfg.out is None else Path(str(cfg.out))
    if out.is_dir():
        raise validation.InvalidInput(f"out must be a file, got the directory {out}")
    loaded, frame = load_agent_and_frame(run_dir, "cpu", cfg.weights, cfg.trusted)
    agent = require_actor(loaded)
    with contextlib.closing(build_saved_env(run_dir, saved, cfg.seed)) as env:
        metadata = describe(saved, env) | {"run": str(run_dir), "frame": str(frame)}
        model = to_onnx(agent, env, metadata)
        difference = largest_difference(model, agent, env)
    if not difference <= TOLERANCE:
        raise RuntimeError(f"actions of the exported policy differ by {difference:.2g} from the agent's; not written")
    make_folder(out.parent, "out")
    write_atomically(out, memoryview(model))
    print(f"{out}: policy of {run_dir} at frame {frame}; largest difference on {NUM_CHECKED} frames {difference:.1e}")
    for name, value in metadata.items():
        print(f"  {name}: {value}")
    return out


def describe(cfg: DictConfig, env: PixelStack) -> dict[str, str]:
    """The contract of input and output, which the file has as metadata."""
    channels, height, width = env.observation_spec().shape
    (action_dim,) = env.action_spec().shape
    return {
        INPUT: (
            f"uint8 (1, {channels}, {height}, {width}): the last {channels // 3} frames, oldest first, each as "
            "(red, green, blue) planes of 0..255; at the start of an episode, the first frame is repeated"
        ),
        OUTPUT: (
            f"float32 (1, {action_dim}) in [-1, 1], to be scaled to the range of each actuator and held for "
            f"{cfg.action_repeat} simulator frames, after which one new frame is stacked"
        ),
        "task": str(cfg.task),
    }


def to_onnx(agent: ActorCriticAgent, env: PixelStack, metadata: dict[str, str]) -> bytes:
    """The policy as an ONNX model with `metadata`."""
    obs = torch.from_numpy(env.reset().observation)[None]
    logging.disable(logging.WARNING)  # the exporter's progress messages
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                Policy(agent), (obs,), dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
            )
    finally:
        logging.disable(logging.NOTSET)
    model = program.model_proto
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value)
    content: bytes = model.SerializeToString()
    return content


def largest_difference(model: bytes, agent: ActorCriticAgent, env: PixelStack) -> float:
    """Largest absolute difference between actions of `model` and `agent` in an episode that the agent plays."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    time_step, differences = env.reset(), []
    for _ in range(NUM_CHECKED):
        expected = agent.act(time_step.observation, step=0, explore=False)
        (actions,) = session.run([OUTPUT], {INPUT: time_step.observation[None]})
        differences.append(np.abs(actions[0] - expected).max())
        time_step = env.reset() if time_step.last() else env.step(expected)
    return float(np.max(differences))  # NaN if there is one


def main() -> None:
    """Check the command line, then export."""
    run_composed(CONFIG_NAME, export)


if __name__ == "__main__":
    run_command(main)
