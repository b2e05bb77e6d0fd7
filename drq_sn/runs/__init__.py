"""A run directory: its writers and its readers."""
