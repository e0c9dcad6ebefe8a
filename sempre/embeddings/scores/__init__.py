"""What frozen embeddings are worth: probes, quality, strangeness, and maps to look at."""
