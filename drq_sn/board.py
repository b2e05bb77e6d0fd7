"""TensorBoard's custom-scalar layout: what belongs together stands in one chart."""

from __future__ import annotations

from collections.abc import Sequence

NETWORKS = ("actor", "critic", "encoder")
GRAD_NORM, GRAD_NORM_MAX = "grad_norm/", "grad_norm_max/"
OF_STATES = {
    "Critic loss on the replay": ("critic_loss",),
    "Gradient at the action": ("action_gradient_mean", "action_gradient_max"),
    "Smoothness": ("smoothness",),
    "Effective rank": ("effective_rank/actor", "effective_rank/critic"),
    "Share of dormant units": ("dormant/actor", "dormant/critic"),
    "Overestimation": ("q_start", "discounted_return", "overestimation"),
}
OF_LAYERS = {"Spectral norms": "sigma", "Frobenius norms": "frobenius", "Effective learning rates": "effective_lr"}


def board_layout(sigma_names: Sequence[str], instrument_names: Sequence[str]) -> dict:
    """Charts by category.

    The charts of losses, Q values and gradient norms are the same for every agent, so that
    TensorBoard shows runs of different agents in one chart instead of one each.

    Args:
        sigma_names: `sigma/{network}.{layer}`, logged by episode.
        instrument_names: what instruments measure by evaluation; logged under `diagnostics/`.
    """
    layout = {
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
    """One chart per network of the names `{prefix}/{network}.{layer}`."""
    found = [name for name in names if name.startswith(f"{prefix}/")]
    networks = dict.fromkeys(name.removeprefix(f"{prefix}/").split(".")[0] for name in found)
    return {network: _lines(*(n for n in found if n.startswith(f"{prefix}/{network}."))) for network in networks}


def _lines(*names: str) -> list:
    return ["Multiline", list(names)]
