"""Masks from frozen embeddings: prototypes, clusters, and the U-Net's input."""
