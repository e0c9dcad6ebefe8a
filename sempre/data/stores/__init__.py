"""The store: written, split over files, brought to a node, read."""
