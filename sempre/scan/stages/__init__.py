"""Stages and what drives them: the protocol of one, the simulator, limits, the closed loop."""
