"""Damaged files into every public entrance, in watched processes."""
