"""What a planned scan leaves behind: protocol, map, blobs, curves, and other programs' coordinates."""
