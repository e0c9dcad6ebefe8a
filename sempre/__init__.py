"""sempre: from unlabelled electron micrographs to a particle segmenter."""

__version__ = "0.1.0"
