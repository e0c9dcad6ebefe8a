"""Vectors of a folder of micrographs in one call, for notebooks."""

from pathlib import Path
from typing import Any

import numpy as np

from sempre.data.feeding.sources import open_source
from sempre.embeddings.encoding.encoder import open_encoder
from sempre.embeddings.encoding.extract import ExtractionOptions, extract, file_percentiles
from sempre.embeddings.encoding.pooling import pool


def embed(
    images: str | Path, backbone: str | Path, pooling: str = "mean", **options: Any
) -> tuple[list[str], np.ndarray]:
    """One vector of a frozen backbone for each micrograph; what was computed once is kept in `runs/embeddings`.

    Args:
        images: a folder of micrographs, or a store of `data/prepare.py`.
        backbone: a backbone folder, an official `.pth`, timm's name, `random:<timm's name>`, or `intensity`.
        pooling: of a micrograph's cells into its vector: mean, `top-<k>`, or class.
        options: as of `sempre.embeddings.encoding.extract.ExtractionOptions`: `scale`, `size`, `layer`, `embeddings`, …

    Returns:
        The micrographs' names, and their vectors float32 `[N, C]` in the same order.

    Raises:
        InputError: for images, a backbone, a pooling or options that cannot be.
    """
    chosen = ExtractionOptions(**options)
    encoder = open_encoder(str(backbone), layer=chosen.layer)
    source = open_source(images, file_percentiles(chosen, encoder))
    embeddings = extract(source, encoder, chosen)
    return list(source.names), np.stack([pool(embeddings[sha256], pooling) for sha256 in source.sha256s])
