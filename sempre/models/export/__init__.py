"""From a fine-tuned network to a bundle: its graph, made for a CPU, and the file beside it."""
