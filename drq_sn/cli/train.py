"""`python -m drq_sn.cli.train task=cheetah_run agent=drqv2 head=modern4 normalizer=spectral seed=1`."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from drq_sn.cli.build import config_dir
from drq_sn.cli.errors import exit_on_invalid_input
from drq_sn.cli.overrides import SWEEP_FLAGS, check_overrides
from drq_sn.cli.run import run

CONFIG_NAME = "train"


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)
def _train(cfg: DictConfig) -> None:
    with exit_on_invalid_input():
        run(cfg)


def main() -> None:
    """Check the command line as a whole, then let Hydra run it, multirun included."""
    # Hydra takes its flags before or after all overrides; `make train ARGS=-m ...` puts them between
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in SWEEP_FLAGS)
    with exit_on_invalid_input():
        check_overrides(sys.argv[1:], CONFIG_NAME)
    _train()


if __name__ == "__main__":
    main()
