"""Runs as a report sees them, made up in memory."""

from __future__ import annotations

from pathlib import Path

from drq_sn.report.types import ScoredRun, Variant
from drq_sn.runs.reader import EVAL, TRAIN, Log, Run
from drq_sn.runs.status import Status

MLP2 = Variant("drq", "mlp2", "none")
MODERN_SN = Variant("drq", "modern4", "spectral")
DASH = "\N{EN DASH}"
RECORD = {
    "versions": {"mujoco": "3.11.0", "dm_control": "1.0.44", "torch": "2.13.0"},
    "gl": {"renderer": "llvmpipe"},
    "device": "a CPU",
    "git_commit": "0123456789abcdef",
    "first_frame_sha256": "aaaabbbbcccc",
}


def log(name, *rows):
    """A CSV file from dictionaries."""
    cells = [{key: str(value) for key, value in row.items()} for row in rows]
    return Log(Path(name), [(line, float(row["frame"]), row) for line, row in enumerate(cells, start=2)])


def scored(
    evaluations, task="cheetah_run", variant=MLP2, seed=1, status="finished", departures=(), num_episodes=10, **more
):
    """A run with evaluations by frame; `more` may hold `folder`, `record`, `options` and `train`, rows of train.csv."""
    rows = [
        {"frame": f, "episode_return_mean": v, "num_episodes": num_episodes, "wall_time_s": f / 10}
        for f, v in evaluations.items()
    ]
    logs = {EVAL: log(EVAL, *rows)}
    if "train" in more:
        logs[TRAIN] = log(TRAIN, *more["train"])
    run = Run(Path(more.get("folder", f"runs/{task}/x/seed_{seed}")), task, seed, Status(status), logs)
    finite = {float(f): v for f, v in evaluations.items() if v == v}
    return ScoredRun(run, variant, tuple(departures), RECORD | more.get("record", {}), finite, more.get("options", {}))
