"""One training loop, its optimisers, schedules, checkpoints and hooks."""
