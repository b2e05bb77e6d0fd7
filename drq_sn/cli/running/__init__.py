"""One training run in its directory: checks, checkpoints, signals, exit codes."""
