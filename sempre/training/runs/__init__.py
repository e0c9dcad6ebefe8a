"""What keeps a run safe: its folder, checkpoints, log and signals."""
