"""Networks that see only what is not masked, and the decoders that paint the rest."""
