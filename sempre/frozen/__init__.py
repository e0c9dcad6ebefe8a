"""Frozen backbones: what they make of micrographs, and what that is good for."""
