"""Masks from frozen embeddings, by prototypes and by clusters."""
