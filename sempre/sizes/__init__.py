"""The size distribution of a sample of micrographs: which particles count, its figures, and their uncertainty."""
