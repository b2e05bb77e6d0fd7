"""Options shown on TensorBoard's HPARAMS page."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from drq_sn.runs.tensorboard import Hyperparameters

CHOICES = ("agent", "head", "normalizer", "preset", "lr_schedule", "penalty", "augmentation")
LISTS = ("normalizer.networks", "normalizer.layers")  # of normalizers that have them; lists are written out
OPTIONS = (
    "num_train_frames",
    "lr",
    "batch_size",
    "n_step",
    "gamma",
    "agent.std_schedule.duration_steps",
    "update_every_steps",
    "agent.tau",
    "agent.trunk_dim",
    "agent.num_filters",
    "head.width",
    "head.actor.num_hidden_layers",
    "head.critic.num_hidden_layers",
    "head.actor.num_blocks",
    "head.critic.num_blocks",
    "env.image_size",
)


def hyperparameters_of(cfg: DictConfig) -> Hyperparameters:
    """The columns of a resolved run, under the names that the command line knows; the same for every run."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    columns: dict[str, str | float | bool | None] = {"task": cfg.task, "seed": cfg.seed}
    columns |= {group: str(choices.get(group, "")) for group in CHOICES}
    columns |= {name: _written_out(OmegaConf.select(cfg, name)) for name in LISTS}
    columns["head.pnorm"] = bool(OmegaConf.select(cfg, "head.pnorm"))
    return columns | {name: OmegaConf.select(cfg, name) for name in OPTIONS}


def _written_out(value: object) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if OmegaConf.is_list(value) else str(value)  # type: ignore[call-overload]
