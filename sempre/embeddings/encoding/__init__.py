"""Micrographs through a frozen encoder, whole or in tiles, and what it made of them in a file."""
