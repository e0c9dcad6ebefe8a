"""Weights on disk: the backbone artefact, a model's folder, and the files of other code."""
