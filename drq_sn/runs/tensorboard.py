"""TensorBoard's custom-scalar layout: what belongs together stands in one chart, and what is to be compared in one of its own.

TensorBoard merges the layouts of all runs that it shows, chart by chart, where they are equal; and it reads a chart's
tags as regular expressions that a tag begins with. So charts name no layers: runs with other heads would add their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from drq_sn.training.metrics import GRAD_NORM, GRAD_NORM_MAX

NETWORKS = ("actor", "critic", "encoder")
OF_STATES = {
    "Critic loss on the replay": ("critic_loss",),
    "Gradient at the action": ("action_gradient_mean", "action_gradient_max"),
    "Smoothness": ("smoothness",),
    "Effective rank": ("effective_rank/actor", "effective_rank/critic"),
    "Share of dormant units": ("dormant/actor", "dormant/critic"),
    "Actor pre-activations": ("actor_preactivation$", "actor_preactivation_max"),
    "Share of saturated actions": ("actor_saturation",),
    "Overestimation": ("q_start", "discounted_return", "overestimation"),
}
COMPARED = {  # one quantity a chart, so that its lines are runs; every agent logs these
    "Return of evaluations": "eval/episode_return",
    "Return of training episodes": "train/episode_return",
    "Critic loss": "learner/critic_loss",
    **{f"Gradient norm (mean): {name}": f"{GRAD_NORM}{name}" for name in NETWORKS},
    **{f"Gradient norm (largest): {name}": f"{GRAD_NORM_MAX}{name}" for name in NETWORKS},
}
COMPARED_OF_STATES = {
    "Critic loss on the replay": "critic_loss",
    "Gradient at the action (mean)": "action_gradient_mean",
    "Smoothness": "smoothness",
    "Share of saturated actions": "actor_saturation",
    **{f"Effective rank: {name}": f"effective_rank/{name}" for name in ("actor", "critic")},
    **{f"Share of dormant units: {name}": f"dormant/{name}" for name in ("actor", "critic")},
    "Overestimation": "overestimation",
}
OF_LAYERS = {"Spectral norms": "sigma", "Frobenius norms": "frobenius", "Effective learning rates": "effective_lr"}


def board_layout(sigma_names: Sequence[str], instrument_names: Sequence[str]) -> dict:
    """Charts by category; each is the same for every agent and head that has it.

    Args:
        sigma_names: `sigma/{network}.{layer}`, logged by episode.
        instrument_names: what instruments measure by evaluation; logged under `diagnostics/`.
    """
    compared = COMPARED | {
        title: f"diagnostics/{name}" for title, name in COMPARED_OF_STATES.items() if instrument_names
    }
    layout = {
        "Comparing runs": {title: _lines(f"{tag}$") for title, tag in compared.items()},
        "Return": {"Episode return": _lines("train/episode_return", "eval/episode_return")},
        "Learning": {
            "Losses": _lines(*(f"learner/{name}_loss" for name in ("critic", "actor", "temperature"))),
            "Q values": _lines("learner/q1", "learner/q2", "learner/critic_target"),
            "Gradient norms (mean)": _lines(*(GRAD_NORM + name for name in NETWORKS)),
            "Gradient norms (largest)": _lines(*(GRAD_NORM_MAX + name for name in NETWORKS)),
        },
        "Throughput": {"Frames per second": _lines("throughput/frames_per_second")},
    }
    if sigma_names:
        layout["Spectral norms"] = _by_network("sigma", sigma_names)
    if instrument_names:
        logged = [f"diagnostics/{name}" for name in instrument_names]
        charts = {title: _lines(*(f"diagnostics/{name}" for name in names)) for title, names in OF_STATES.items()}
        layout["Diagnostics"] = charts
        for title, kind in OF_LAYERS.items():
            layout[f"Diagnostics: {title.lower()}"] = _by_network(f"diagnostics/{kind}", logged)
    return layout


def _by_network(prefix: str, names: Sequence[str]) -> dict:
    """One chart per network of the names `{prefix}/{network}.{layer}`, whatever the layers are called."""
    found = [name.removeprefix(f"{prefix}/") for name in names if name.startswith(f"{prefix}/")]
    networks = dict.fromkeys(name.split(".")[0] for name in found)
    return {network: _lines(rf"{prefix}/{network}\.") for network in networks}


def _lines(*names: str) -> list:
    return ["Multiline", list(names)]
