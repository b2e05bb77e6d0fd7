"""Training: the loop, the replay, augmentations, schedules, evaluation and diagnostics."""
