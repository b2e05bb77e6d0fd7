"""`drq-sn evaluate run=DIR episodes=10 [weights=best] [video=true]`: evaluate a run, finished or not."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.cli.config.build import random_states_of
from drq_sn.cli.config.command_line import run_composed
from drq_sn.cli.config.ranges import EVALUATE, check_ranges
from drq_sn.cli.config.saved import build_saved_env, load_agent_and_frame, load_config
from drq_sn.cli.running.exit_codes import exit_stalled, run_command
from drq_sn.output import require_written
from drq_sn.runs.progress import format_return
from drq_sn.runs.video import VideoRecorder, playback_rate
from drq_sn.training import cpu
from drq_sn.training.evaluation import EnvironmentPool, evaluate

CONFIG_NAME = "evaluate"
ENV_LIMIT_SECONDS = 60.0  # of runs that did not save it


def run_evaluation(cfg: DictConfig) -> list[float]:
    """Play episodes with the weights of a run, print their returns and return them.

    `cfg` has the options in `cfg/evaluate.yaml`; a video shows the first episode.
    """
    check_ranges(cfg, EVALUATE)
    run_dir = Path(str(cfg.run))
    saved = load_config(run_dir, cfg.trusted)
    limit = saved.get("env_limit_seconds") or ENV_LIMIT_SECONDS
    cpu.set_up(None, None)
    agent, frame = load_agent_and_frame(run_dir, cfg.device, cfg.weights, cfg.trusted)
    path = run_dir / "video" / f"{frame}_seed_{cfg.seed}.mp4"
    with contextlib.ExitStack() as stack:
        env = build_saved_env(run_dir, saved, saved.seed)
        pool = EnvironmentPool(lambda: env, 1, limit, exit_stalled)
        stack.enter_context(contextlib.closing(pool))
        record = stack.enter_context(VideoRecorder(path, playback_rate(env))) if cfg.video else None
        start = time.monotonic()
        try:
            episodes = evaluate(pool, agent, random_states_of(cfg.seed, cfg.episodes), record)
        except FloatingPointError as error:
            raise validation.InvalidInput(f"{run_dir}: its weights must be finite ({error})") from None
        returns = [episode.episode_return for episode in episodes]
    seconds = time.monotonic() - start
    print(f"{run_dir} at frame {frame}: {format_return(returns)} in {seconds:.0f} s")
    if num_diverged := sum(episode.diverged for episode in episodes):
        print(f"{num_diverged} of them ended early because the simulation diverged")
    print("single returns: " + " ".join(f"{value:.1f}" for value in returns))
    if record is not None and record.is_complete:
        print(f"video: {path}")
    require_written()
    return returns


def main() -> None:
    """Check the command line, then evaluate."""
    run_composed(CONFIG_NAME, run_evaluation)


if __name__ == "__main__":
    run_command(main)
