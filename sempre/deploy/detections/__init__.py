"""Overlapping detections: found in tiles, merged, pasted and painted."""
