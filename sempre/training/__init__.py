"""The loop that every recipe shares, and what keeps a run safe: checkpoints, logs, signals."""
