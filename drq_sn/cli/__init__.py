"""Commands. Hydra lives here and nowhere else."""
