"""Labelled sets: their sides and groups, and what predictions on them come to."""
