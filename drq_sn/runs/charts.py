"""Names of TensorBoard's scalars, and the layout of its custom-scalar charts.

TensorBoard merges the layouts of all runs chart by chart if they are equal, and reads the tags of a chart as
regular expressions that match the beginning of a tag. Charts therefore name no layers: runs with different heads
would add charts of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drq_sn.training.metrics import GRAD_NORM, GRAD_NORM_MAX

STATE, LAYERS = "network_state", "network_layers"  # groups of diagnostics, below those of returns and losses
SHARED = ("frame", "step")  # columns of all tables
TAGS = {  # table -> column -> tag; empty for no chart
    "train": {
        **dict.fromkeys(("frame", "step", "episode", "num_steps", "num_updates", "wall_time_s"), ""),
        "episode_return": "train/episode_return",
        "frames_per_second": "throughput/frames_per_second",
        "num_diverged_simulations": "train/diverged_simulations",
    },
    "eval": {"episode_return_mean": "eval/episode_return"},
}
LAYER_CHARTS = {"Spectral norms": "sigma", "Frobenius norms": "frobenius", "Effective learning rates": "effective_lr"}
NETWORKS = ("actor", "critic", "encoder", "q_network")
STATE_CHARTS = {
    "Critic loss on the replay": ("critic_loss",),
    "Gradient at the action": ("action_gradient_mean", "action_gradient_max"),
    "Smoothness": ("smoothness",),
    "Effective rank": ("effective_rank/actor", "effective_rank/critic"),
    "Fraction of dormant units": ("dormant/actor", "dormant/critic"),
    "Actor pre-activations": ("actor_preactivation$", "actor_preactivation_max"),
    "Fraction of saturated actions": ("actor_saturation",),
    "Overestimation": ("q_start", "discounted_return", "overestimation"),
}
COMPARED = {  # one tag per chart, so that its lines are runs
    "Return of evaluations": "eval/episode_return",
    "Return of training episodes": "train/episode_return",
    "Critic loss": "learner/critic_loss",
    **{f"Gradient norm (mean): {name}": f"{GRAD_NORM}{name}" for name in NETWORKS},
    **{f"Gradient norm (largest): {name}": f"{GRAD_NORM_MAX}{name}" for name in NETWORKS},
}
COMPARED_DIAGNOSTICS = {
    "Critic loss on the replay": "critic_loss",
    "Gradient at the action (mean)": "action_gradient_mean",
    "Smoothness": "smoothness",
    "Fraction of saturated actions": "actor_saturation",
    **{f"Effective rank: {name}": f"effective_rank/{name}" for name in ("actor", "critic")},
    **{f"Fraction of dormant units: {name}": f"dormant/{name}" for name in ("actor", "critic")},
    "Overestimation": "overestimation",
}


def tag(table: str, column: str) -> str:
    """TensorBoard's name of a column, by which it groups and sorts cards: returns first; empty if it has no chart."""
    if table == "diagnostics":
        kind = column.partition("/")[0]
        return "" if column in SHARED else f"{LAYERS if kind in LAYER_CHARTS.values() else STATE}/{column}"
    if column in TAGS[table] or table == "eval":
        return TAGS[table].get(column, "")
    return column if "/" in column else f"learner/{column}"


def chart_layout(train_columns: Sequence[str], diagnostic_columns: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Charts by category; a chart is the same for every agent and head that has it.

    Args:
        train_columns: logged per episode, with `sigma/{network}.{layer}`.
        diagnostic_columns: logged per evaluation.
    """
    sigma_names = [name for name in train_columns if name.startswith("sigma/")]
    logged = {tag("eval", "episode_return_mean"), *(tag("train", name) for name in train_columns)}
    logged |= {tag("diagnostics", name) for name in diagnostic_columns}
    compared = COMPARED | {title: tag("diagnostics", name) for title, name in COMPARED_DIAGNOSTICS.items()}
    layout = {
        "Comparing runs": {title: _lines(f"{tag}$") for title, tag in compared.items() if tag in logged},
        "Return": {"Episode return": _lines("train/episode_return", "eval/episode_return")},
        "Learning": {
            "Losses": _lines(*(f"learner/{name}_loss" for name in ("critic", "actor", "temperature"))),
            "Q values": _lines("learner/q1", "learner/q2", "learner/critic_target", "learner/q$", "learner/q_greedy"),
            "Gradient norms (mean)": _lines(*(GRAD_NORM + name for name in NETWORKS)),
            "Gradient norms (largest)": _lines(*(GRAD_NORM_MAX + name for name in NETWORKS)),
        },
        "Throughput": {"Frames per second": _lines("throughput/frames_per_second")},
    }
    if sigma_names:
        layout["Spectral norms"] = _charts_by_network("sigma", sigma_names)
    if diagnostic_columns:
        tags = [tag("diagnostics", name) for name in diagnostic_columns]
        layout["Diagnostics"] = {
            title: _lines(*(tag("diagnostics", name) for name in names))
            for title, names in STATE_CHARTS.items()
            if any(name.rstrip("$") in diagnostic_columns for name in names)
        }
        for title, kind in LAYER_CHARTS.items():
            layout[f"Diagnostics: {title.lower()}"] = _charts_by_network(f"{LAYERS}/{kind}", tags)
    return layout


def _charts_by_network(prefix: str, tags: Sequence[str]) -> dict[str, list[Any]]:
    """One chart per network for the tags `{prefix}/{network}.{layer}`, whatever the names of the layers."""
    names = [tag.removeprefix(f"{prefix}/") for tag in tags if tag.startswith(f"{prefix}/")]
    networks = dict.fromkeys(name.split(".")[0] for name in names)
    return {network: _lines(rf"{prefix}/{network}\.") for network in networks}


def _lines(*tags: str) -> list[Any]:
    return ["Multiline", list(tags)]
