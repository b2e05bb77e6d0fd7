"""Time and memory of updates and actions."""
