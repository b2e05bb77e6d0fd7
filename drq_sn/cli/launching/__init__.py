"""Sweeps: the grid of runs, the launchers and the live table."""
