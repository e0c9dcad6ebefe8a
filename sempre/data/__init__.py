"""Stores of micrographs, labelled sets, and what feeds them to a network."""
