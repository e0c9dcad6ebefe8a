"""Graphs for deployment, and the bundles that hold them."""
