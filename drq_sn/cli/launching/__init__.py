"""Sweeps: the grid of runs and the launchers."""
