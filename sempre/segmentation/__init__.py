"""From maps or detections to instances: scales, tiles, decoding, merging, the watershed baseline. NumPy alone."""
