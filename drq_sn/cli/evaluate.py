"""`drq-sn evaluate run=DIR episodes=10 [weights=best] [video=true]`: evaluate a run, finished or not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from drq_sn import validation
from drq_sn.cli.config.build import build_env, random_states_of
from drq_sn.cli.config.command_line import run_composed
from drq_sn.cli.config.ranges import EVALUATE, check_ranges
from drq_sn.cli.config.saved import load_agent_and_frame, load_config
from drq_sn.cli.running.exit_codes import exit_stalled
from drq_sn.output import require_written
from drq_sn.runs.progress import format_return
from drq_sn.runs.video import VideoRecorder, playback_rate
from drq_sn.training import cpu
from drq_sn.training.evaluation import EnvironmentPool, evaluate

CONFIG_NAME = "evaluate"
ENV_LIMIT_SECONDS = 60.0  # of runs that did not save it


def run_evaluation(
    run_dir: Path,
    num_episodes: int,
    seed: int,
    device: str,
    video: bool,
    weights: str = "last",
    trusted: Sequence[str] = (),
) -> list[float]:
    """Play `num_episodes` with the `last` or `best` weights of `run_dir` and print their returns.

    `video` records the first episode; see `load_config` for `trusted`.
    """
    cfg = load_config(run_dir, trusted)
    limit = cfg.get("env_limit_seconds") or ENV_LIMIT_SECONDS
    cpu.set_up(None, None)
    agent, frame = load_agent_and_frame(run_dir, device, weights, trusted)
    path = run_dir / "video" / f"{frame}_seed_{seed}.mp4"
    with contextlib.ExitStack() as stack:
        env = build_env(cfg)
        pool = EnvironmentPool(lambda: env, 1, limit, exit_stalled)
        stack.enter_context(contextlib.closing(pool))
        record = stack.enter_context(VideoRecorder(path, playback_rate(env))) if video else None
        start = time.monotonic()
        try:
            episodes = evaluate(pool, agent, random_states_of(seed, num_episodes), record)
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
    return returns


def _evaluate(cfg: DictConfig) -> None:
    check_ranges(cfg, EVALUATE)
    run_evaluation(Path(str(cfg.run)), cfg.episodes, cfg.seed, cfg.device, cfg.video, cfg.weights, cfg.trusted)
    require_written()


def main() -> None:
    """Check the command line, then evaluate."""
    run_composed(CONFIG_NAME, _evaluate)


if __name__ == "__main__":
    main()
