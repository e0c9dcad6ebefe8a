"""Whole samples beside fields of particles: a fungus, and those whose defects are known."""
