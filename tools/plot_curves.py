"""Draw the curves under results/: returns, and the actor's gradient norm.

usage: plot_curves.py [RESULTS_FOLDER]

Reads RESULTS/laptop/{run}/seed_{n}/eval.csv and train.csv and writes RESULTS/laptop/curves.png.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
LABELS = {
    "drqv2_modern4_spectral": "DrQ-v2, modern4 + SN",
    "drqv2_modern4_none": "DrQ-v2, modern4",
    "drq_modern4_spectral": "DrQ, modern4 + SN",
}
STYLES = ("-", "--", ":")  # one per seed


def columns(path: Path, *names: str) -> list[list[float]]:
    """The named columns of a CSV file, rows with an empty cell left out."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if all(row[name] for name in names)]
    return [[float(row[name]) for row in rows] for name in names]


def main() -> None:
    """Draw one panel of returns and one of gradient norms."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "results") / "laptop"
    figure, (returns, norms) = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    for number, (name, label) in enumerate(LABELS.items()):
        for run, style in zip(sorted(folder.glob(f"{name}/seed_*")), STYLES, strict=False):
            look = {"color": f"C{number}", "linestyle": style, "label": f"{label}, {run.name.replace('_', ' ')}"}
            frames, mean, sd = columns(run / "eval.csv", "frame", "episode_return_mean", "episode_return_sd")
            returns.errorbar([frame / 1000 for frame in frames], mean, sd, marker="o", markersize=4, capsize=2, **look)
            frames, norm = columns(run / "train.csv", "frame", "grad_norm_max/actor")
            norms.semilogy([frame / 1000 for frame in frames], norm, **look)
    returns.set(xlabel="thousand frames", ylabel="evaluation return (mean, sd of 10 episodes)", ylim=(0, 1050))
    norms.set_ylim(1e-3, 1e2)
    norms.set(xlabel="thousand frames", ylabel="largest actor gradient norm an episode")
    returns.set_title("cartpole_balance, laptop preset", fontsize=10)
    for axes in (returns, norms):
        axes.grid(alpha=0.3)
    returns.legend(fontsize=8, loc="center right")
    figure.savefig(folder / "curves.png", dpi=110)
    print(folder / "curves.png")


if __name__ == "__main__":
    main()
