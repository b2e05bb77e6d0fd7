"""One run from start to end: run directory, record, training."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from drq_sn import validation
from drq_sn.cli.config.build import (
    build_agent,
    build_env,
    build_loop,
    build_replay,
    instantiate,
    partial_env,
    random_states_of,
    resolve,
)
from drq_sn.cli.config.identify import record_choices
from drq_sn.cli.config.older_runs import parse_config
from drq_sn.cli.config.overrides import own_options
from drq_sn.cli.config.ranges import TRAIN, check_ranges
from drq_sn.cli.config.saved import initialize_agent, read_config, saved_length
from drq_sn.cli.running.callback import CallbackFailed, EvaluationFeed
from drq_sn.cli.running.checkpointing import FORMAT, Session, seed_everything
from drq_sn.cli.running.columns import hyperparameters_of
from drq_sn.cli.running.exit_codes import exit_stalled
from drq_sn.cli.running.lock import RunLock
from drq_sn.cli.running.memory import require_memory
from drq_sn.cli.running.messages import announce_end, announce_start, warn_of_no_update
from drq_sn.cli.running.run_dir import claimed, recorded, require_same
from drq_sn.cli.running.signals import SignalHandler, Stopped
from drq_sn.envs.gl import find_backend
from drq_sn.envs.specs import specs_of
from drq_sn.envs.watchdog import Watchdog
from drq_sn.runs import provenance
from drq_sn.runs.checkpoints import Checkpoint, CheckpointStore
from drq_sn.runs.files import WeightsWriter, write_atomically
from drq_sn.runs.logger import RunLogger
from drq_sn.runs.reader import CONFIG, read_record
from drq_sn.runs.status import Status
from drq_sn.runs.video import VideoRecorder, playback_rate
from drq_sn.training import cpu
from drq_sn.training.diagnostics import Diagnostics
from drq_sn.training.evaluation import EnvironmentPool, evaluate
from drq_sn.training.limits import num_available_cores
from drq_sn.training.loop import TrainingDiverged
from drq_sn.types import Episode, Logger


@cpu.restored()
def run(cfg: DictConfig, feed: EvaluationFeed = EvaluationFeed()) -> None:  # noqa: B008, does nothing without a function
    """Train with configuration `cfg` in `cfg.run_dir`; resume an unfinished run there.

    Args:
        cfg: the configuration, as Hydra composes it.
        feed: passes on the evaluations, except the last.

    Raises:
        CallbackFailed: if its function raised an exception, after a checkpoint.
        InvalidInput: before anything is written, if `cfg` is invalid.
        Stopped: after a signal and a checkpoint.
        TrainingDiverged: if a loss or weight is not finite.
    """
    resolve(cfg)
    check_ranges(cfg, TRAIN)
    choices = record_choices(cfg)
    agent_name, head, normalizer = (choices["choices"][name] for name in ("agent", "head", "normalizer"))
    print(f"{cfg.task}: building agent={agent_name} head={head} normalizer={normalizer}", flush=True)
    backend = find_backend()
    device = provenance.select_device(cfg.device)
    cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
    loop = build_loop(cfg)
    with contextlib.closing(build_env(cfg, seed=0)) as env:
        require_memory(cfg, env, device)
        seed_everything(cfg.seed)
        agent, replay = build_agent(cfg, env, device), build_replay(cfg, env, device)
        repeats_episodes = bool(env.random_state)
        environment = {
            "env": {"target": cfg.env._target_, "repeats_episodes": repeats_episodes},
            "first_frame_sha256": provenance.frame_hash(env),
        }
    further: Logger = instantiate(cfg.logger)
    own = own_options(cfg)
    path = Path(str(cfg.run_dir or ""))
    initial = initialize_agent(agent, cfg) if cfg.fresh or not path.exists() else {}  # before anything is written
    with claimed(path, cfg.fresh) as lock:
        run_dir = lock.path
        schedule = cfg.checkpoint_every_seconds, cfg.checkpoint_every_frames
        session = Session(agent, replay, loop, CheckpointStore(run_dir), OmegaConf.to_yaml(own), *schedule)
        checkpoint = session.store.newest()
        _require_own_run(run_dir, checkpoint, own)
        if _has_finished(run_dir, cfg, checkpoint):
            return
        if checkpoint is not None:
            _require_resumable(run_dir, cfg, checkpoint)
        drawn_by, preset = backend if env.renders else None, choices["choices"]["preset"]
        announce_start(cfg, run_dir, device, drawn_by, repeats_episodes, preset)
        if not loop.updates:
            warn_of_no_update(cfg, loop.num_steps)
        if checkpoint is not None:
            session.restore(checkpoint)
            print(f"resuming at frame {checkpoint.step * loop.action_repeat}")
        else:
            initial = initial or initialize_agent(agent, cfg)
            if (backup := lock.move_to_backup()) is not None:
                print(f"no readable checkpoint: starting over; the earlier files are in {backup}")
        frame = checkpoint.step * loop.action_repeat if checkpoint else None
        machine = {
            "versions": provenance.versions(),
            "gl": {"backend": backend.name, "renderer": backend.renderer},
            "device": provenance.device_name(device),
            "git_commit": provenance.git_commit(),
        }
        facts = choices | machine | environment | initial
        try:
            with recorded(run_dir, facts, frame) as results:
                write_atomically(run_dir / CONFIG, session.config.encode())
                episodes = _train(cfg, lock, session, checkpoint, results, further, feed)
        except TrainingDiverged:
            _delete_checkpoints(cfg, session.store)
            raise
        _delete_checkpoints(cfg, session.store)
    announce_end(cfg, run_dir, episodes)


def _train(
    cfg: DictConfig,
    lock: RunLock,
    session: Session,
    checkpoint: Checkpoint | None,
    results: dict[str, Any],
    further: Logger,
    feed: EvaluationFeed,
) -> list[Episode]:
    """Train until the end, a signal or divergence; leave a checkpoint to resume from, or the diverged weights.

    What `run.json` records of the training goes into `results`.

    Returns:
        The episodes of the last evaluation.
    """
    agent, signals, diagnostics = session.agent, SignalHandler(), Diagnostics(session.agent, cfg.gamma)
    run_dir = lock.path
    on_stall = functools.partial(exit_stalled, run_dir=run_dir)
    num_workers = min(cfg.num_eval_processes or num_available_cores(), cfg.num_eval_episodes)
    config: Any = OmegaConf.to_container(OmegaConf.create(session.config))
    logger = RunLogger(
        run_dir,
        cfg.num_train_frames,
        agent.metric_names,
        tuple(agent.sigmas()),
        diagnostics.names if cfg.diagnose_states else (),
        cfg.num_eval_episodes,
        checkpoint and checkpoint.state["logger"],
        hyperparameters_of(cfg),
        config,
        further,
    )

    last_evaluation: list[Episode] = []

    def save() -> None:
        lock.verify()
        session.save(logger)

    def before_step() -> None:
        signals.check()
        feed.deliver(run_dir)
        at_end = session.loop.step == session.loop.num_steps
        if session.is_due() or (at_end and cfg.keep_checkpoint):
            save()

    def run_evaluation(frame: int) -> list[Episode]:
        random_states = random_states_of([cfg.seed, frame], cfg.num_eval_episodes)
        with contextlib.ExitStack() as video:
            record = None
            if cfg.video_every_frames and frame % cfg.video_every_frames == 0:
                record = video.enter_context(VideoRecorder(run_dir / "video" / f"{frame}.mp4", playback_rate(env)))
            try:
                episodes = evaluate(pool, agent, random_states, record, signals.check)
            except FloatingPointError:
                raise TrainingDiverged(frame) from None
        logger.video(record, frame)
        if cfg.diagnose_states:
            batch = session.replay.peek(cfg.diagnose_states, seed=frame) if session.replay.num_transitions else None
            logger.diagnostics(frame, session.loop.step, diagnostics(session.loop.step, batch, episodes))
        lock.verify()
        mean_return = float(np.mean([episode.episode_return for episode in episodes]))
        weights.save(agent.networks.state_dict(), frame, mean_return)
        last_evaluation[:] = episodes
        feed.announce()
        return episodes

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(logger))
        env = Watchdog(build_env(cfg), cfg.env_limit_seconds, on_stall)
        stack.enter_context(contextlib.closing(env))
        weights = WeightsWriter(run_dir, specs_of(env)._asdict())
        pool = EnvironmentPool(partial_env(cfg), num_workers, cfg.env_limit_seconds, on_stall)
        stack.enter_context(contextlib.closing(pool))
        stack.enter_context(signals.installed())
        results["diverged_simulations"] = logger.diverged_simulations
        try:
            session.loop.run(env, agent, session.replay, logger, run_evaluation, before_step)
        except (Stopped, CallbackFailed):
            save()
            raise
        except TrainingDiverged:
            session.store.keep_diverged(agent.state_dict())
            logger.end(success=False)
            raise
        logger.end(success=True)
    return last_evaluation


def _delete_checkpoints(cfg: DictConfig, store: CheckpointStore) -> None:
    """Delete the checkpoints of a run that is over, unless they are wanted."""
    if not cfg.keep_checkpoint:
        store.delete()


def _require_own_run(run_dir: Path, checkpoint: Checkpoint | None, own: DictConfig) -> None:
    """Refuse a directory with a run of other settings, or with an unfinished run of older code."""
    if checkpoint is not None:
        if not Status(read_record(run_dir).get("status")).is_final:
            _require_format(run_dir, checkpoint)
        saved = parse_config(str(checkpoint.state.get("config", "")), run_dir / CONFIG)
        require_same(run_dir, OmegaConf.create(saved), own)
    elif (run_dir / CONFIG).is_file():
        require_same(run_dir, read_config(run_dir), own)


def _require_format(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint of older code."""
    if checkpoint.state.get("format") != FORMAT:
        commit = read_record(run_dir).get("git_commit") or "unknown"
        raise validation.InvalidInput(
            f"{run_dir} holds an unfinished run of commit {commit}, which this version cannot resume; "
            "resume it at that commit, or use another run_dir"
        )


def _require_resumable(run_dir: Path, cfg: DictConfig, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint of older code, or one after the end that `cfg` wants."""
    _require_format(run_dir, checkpoint)
    if cfg.num_train_frames < (frame := checkpoint.step * cfg.action_repeat):
        raise validation.InvalidInput(
            f"num_train_frames must be at least {frame}, where the run in {run_dir} already is, "
            f"got {cfg.num_train_frames}"
        )


def _has_finished(run_dir: Path, cfg: DictConfig, checkpoint: Checkpoint | None) -> bool:
    """Whether the run has finished and is as long as `cfg` wants it; prints so.

    Raises:
        InvalidInput: for a shorter finished run without a checkpoint.
        TrainingDiverged: for a run that diverged.
    """
    record = read_record(run_dir)
    status = Status(record.get("status"))
    if status.is_final and not read_config(run_dir).get("keep_checkpoint"):
        CheckpointStore(run_dir).delete()  # if it was killed before it did so
    if status is Status.DIVERGED:
        raise TrainingDiverged(record.get("frame", 0))
    if status is not Status.FINISHED:
        return False
    frame = saved_length(run_dir)
    if cfg.num_train_frames > frame:
        if checkpoint is None:
            raise validation.InvalidInput(
                f"the run in {run_dir} already finished at frame {frame} and kept no checkpoint to train on from "
                "(keep_checkpoint=true); use another run_dir, or fresh=true to start over"
            )
        return False
    print(f"{run_dir} already finished at frame {frame}; fresh=true starts over")
    return True
