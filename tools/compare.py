"""Speed of updates and actions before and after a change, measured in turns in one run.

BASELINE is a checkout of another commit (`git worktree add ../baseline 5325ba0`), of this layout or the one before. For
each agent and model a worker of either checkout is started, and the two take turns. Options are those of `drq-sn train`
that both know. Prints medians and ranges in ms and the median ratio over rounds; --out writes all samples as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import runpy
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TURNS = runpy.run_path(str(ROOT / "drq_sn" / "profiling" / "turns.py"))  # this checkout's, whichever is measured
HEADS = ("head=mlp2 normalizer=none", "head=modern4 normalizer=spectral")
MODELS = [f"agent={agent} {head}" for agent in ("drqv2", "drq") for head in HEADS]
NUM_STEPS, NUM_ACTS = 100, 50  # steps in the replay, timed actions
WARM_UP_UPDATES, WARM_CALLS = 300, 8  # of power iteration, skipped; enough to compile or capture every kind of update


class Learner:
    """What a worker measures, built from the `drq_sn` that it imports."""

    def prepare(self, options: list[str]) -> dict[str, str]:
        """Build the agent and a full replay, and warm up; returns the directory of the code."""
        import torch
        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf

        try:
            build, cpu = map(importlib.import_module, ("drq_sn.cli.config.build", "drq_sn.training.cpu"))
        except ModuleNotFoundError:  # the layout of 5325ba0
            build, cpu = map(importlib.import_module, ("drq_sn.cli.build", "drq_sn.processor"))
        with initialize_config_dir(version_base="1.3", config_dir=str(build.config_dir())):
            cfg = compose("train", options)
        cfg.run_dir, cfg.num_train_frames = None, cfg.action_repeat * NUM_STEPS
        OmegaConf.resolve(cfg)
        cpu.set_up(cfg.num_threads, cfg.cores, cfg.matmul_precision)
        device = torch.device("cuda" if torch.cuda.is_available() and cfg.device != "cpu" else "cpu")
        self.wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        env = build.build_env(cfg, cfg.seed)
        self.agent, self.replay = build.build_agent(cfg, env, device), build.build_replay(cfg, env, device)
        self.agent.num_updates = WARM_UP_UPDATES
        random, time_step, action = np.random.default_rng(0), env.reset(), None
        for _ in range(NUM_STEPS):
            self.replay.add(time_step, action)
            action = random.uniform(-1, 1, env.action_spec().shape).astype(np.float32)
            time_step = env.step(action)
        self.obs = time_step.observation
        self.sample(WARM_CALLS)
        return {"code": str(build.config_dir().parent)}

    def sample(self, num_updates: int) -> dict[str, float]:
        """Milliseconds per update, including its batch, and per action, which ends on the host."""
        start = time.perf_counter()
        for i in range(num_updates):
            self.agent.update(self.replay.sample(), i)
        self.wait()
        updated = time.perf_counter()
        for _ in range(NUM_ACTS):
            self.agent.act(self.obs, 0, explore=False)
        acted = time.perf_counter()
        return {"update": 1e3 * (updated - start) / num_updates, "action": 1e3 * (acted - updated) / NUM_ACTS}


def main() -> None:
    """Measure every agent and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("options", nargs="*")
    args = parser.parse_intermixed_args()
    command, codes = [sys.executable, __file__], {"before": args.baseline.resolve(), "after": ROOT}
    results = []
    for model in MODELS:
        prepare = {"options": ["task=cartpole_balance", *model.split(), *args.options]}
        rows = [TURNS["Row"]({"model": model, "when": when}, command, code, prepare) for when, code in codes.items()]
        for row, number, measured in TURNS["take_turns"](rows, args.rounds, {"num_updates": args.updates}):
            if "error" in measured:
                sys.exit(f"{row.title}: {measured['error']}")
            if number == 0:
                print(f"{row.title}: {measured['code']}", flush=True)
            else:
                results.append({**row.columns, "round": number, **measured})
        for what in ("update", "action"):
            samples = [result for result in results if result["model"] == model]
            ms = {when: [sample[what] for sample in samples if sample["when"] == when] for when in codes}
            texts = [f"{when} {median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for when, v in ms.items()]
            ratio = median(after / before for before, after in zip(ms["before"], ms["after"], strict=True))
            print(f"{model}  ms per {what}: {', '.join(texts)}, ratio {ratio:.3f}", flush=True)
        if args.out:
            args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main() if len(sys.argv) > 1 else TURNS["serve"](Learner)
