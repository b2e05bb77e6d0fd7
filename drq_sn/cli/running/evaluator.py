"""Environments that end the process when they hang, and evaluations in them."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from drq_sn.agents.actor_critic import ActorCriticAgent
from drq_sn.cli.config.build import build_env, partial_env, random_states_of
from drq_sn.cli.running.exit_codes import STALLED
from drq_sn.envs.subprocess_env import EnvironmentProcess
from drq_sn.envs.watchdog import Watchdog
from drq_sn.runs.files import write_json
from drq_sn.runs.reader import FAILED, RECORD, read_record
from drq_sn.runs.video import VideoRecorder
from drq_sn.training.cpu import available_cores
from drq_sn.training.evaluation import evaluate_in_parallel
from drq_sn.training.loop import evaluate
from drq_sn.types import Episode

LAST_WORDS_SECONDS = 5.0
STACK_SECONDS = 0.5  # for processes to write where they hang


def watched_env(cfg: DictConfig, seed: int, run_dir: Path) -> Watchdog:
    """An environment that ends the process, with its reason, when it does not answer."""
    return Watchdog(build_env(cfg, seed), cfg.env_limit_seconds, lambda reason: end_stalled(run_dir, reason))


def end_stalled(run_dir: Path, reason: str) -> None:
    """End this process, and let the run's record and stderr say why."""
    # the thread that hangs can't be asked to stop; nor must a disk or a pipe that hangs too keep us
    last = threading.Timer(LAST_WORDS_SECONDS, os._exit, [STALLED])
    last.daemon = True
    last.start()
    try:
        print(f"error: {reason}; where it hangs:", file=sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        write_json(run_dir / RECORD, {**read_record(run_dir), "status": FAILED, "error": reason})
    finally:
        os._exit(STALLED)


class Evaluator:
    """Evaluations of one run: seeded by run and frame, each on environments of its own or in processes.

    Args:
        cfg: the run's configuration.
        agent: who plays.
        run_dir: where films go.
        frames_per_second: their playback rate.
        before_step: see `evaluate`.
    """

    def __init__(
        self,
        cfg: DictConfig,
        agent: ActorCriticAgent,
        run_dir: Path,
        frames_per_second: float,
        before_step: Callable[[], None],
    ) -> None:
        self._cfg, self._agent, self._run_dir = cfg, agent, run_dir
        self._frames_per_second, self._before_step = frames_per_second, before_step
        self._processes: list[EnvironmentProcess] = []

    def __call__(self, frame: int) -> list[Episode]:
        """Evaluate at `frame`; filmed if that is due. Leaves every random state as it was."""
        every = self._cfg.video_every_frames
        if every == 0 or frame % every:
            return self._play(frame, None)
        with VideoRecorder(self._run_dir / "video" / f"{frame}.mp4", self._frames_per_second) as record:
            return self._play(frame, record)

    def _play(self, frame: int, record: VideoRecorder | None) -> list[Episode]:
        cfg = self._cfg
        states = random_states_of([cfg.seed, frame], cfg.num_eval_episodes)
        num_processes = min(cfg.num_eval_processes or len(available_cores()), cfg.num_eval_episodes)
        if num_processes == 1:
            with contextlib.closing(watched_env(cfg, cfg.seed, self._run_dir)) as env:
                return evaluate(env, self._agent, states, record, self._before_step)
        while len(self._processes) < num_processes:  # kept from one evaluation to the next
            self._processes.append(EnvironmentProcess(partial_env(cfg), cfg.env_limit_seconds))
        watch = cfg.env_limit_seconds, self._end_stalled
        return evaluate_in_parallel(self._processes, self._agent, states, record, self._before_step, *watch)

    def _end_stalled(self, reason: str) -> None:
        for process in self._processes:
            process.show_stack()
        time.sleep(STACK_SECONDS)
        end_stalled(self._run_dir, reason)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.hang_up()
        for process in self._processes:
            process.close()
