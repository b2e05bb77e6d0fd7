"""Speed of updates, actions and draws from the replay before and after a change, measured in turns in one run.

usage: compare.py BASELINE [--rounds 5] [--updates 2] [--out FILE] [option=value ...]

BASELINE is a checkout of another commit (`git worktree add ../baseline COMMIT`). For each agent and model a worker of
either checkout is started, and the two take turns. Options are those of `drq-sn bench` that both know. Prints medians
and ranges in ms and the median ratio over rounds; --out writes all samples as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from drq_sn.cli.workload import build_row
from drq_sn.profiling.turns import take_turns

AGENTS, MODELS = ("drqv2", "drq"), (("mlp2", "none"), ("modern4", "spectral"))
NUM_ACTS = 50
TIMES = {"update": "training_seconds", "action": "acting_seconds", "draw": "sampling_seconds"}


def main() -> None:
    """Measure every agent and model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("options", nargs="*")
    args = parser.parse_intermixed_args()
    sample = {"num_updates": args.updates, "num_acts": NUM_ACTS}
    results: list[dict[str, Any]] = []
    for agent, (head, normalizer) in itertools.product(AGENTS, MODELS):
        model = {"agent": agent, "head": head, "normalizer": normalizer}
        after = build_row("bench", model, args.options, details=False)
        codes = {"before": args.baseline.resolve(), "after": after.code}
        rows = [dataclasses.replace(after, columns={**model, "when": when}, code=codes[when]) for when in codes]
        samples: dict[str, list[dict[str, float]]] = {when: [] for when in codes}
        for row, number, measured in take_turns(rows, args.rounds, sample):
            if "error" in measured:
                sys.exit(f"{row.title}: {measured['error']}")
            if number:
                samples[row.columns["when"]].append(measured)
        for name, key in TIMES.items():
            ms = {when: [1e3 * each[key] for each in samples[when]] for when in codes}
            texts = [f"{when} {median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for when, v in ms.items()]
            ratio = median(new / old for old, new in zip(ms["before"], ms["after"], strict=True))
            print(f"{after.title}  ms per {name}: {', '.join(texts)}, ratio {ratio:.3f}", flush=True)
        results.append({**model, **samples})
        if args.out:
            args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
