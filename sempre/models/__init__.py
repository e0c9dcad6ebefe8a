"""Networks, their weights on disk, and the graphs that are exported."""
