"""Specimens of other laboratories, each a scene of its own: heaps, grains, precipitates, charging, bare structure."""
