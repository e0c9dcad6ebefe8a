"""Think, from words: patches that look like "cracks", and not like "particles"."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sempre.embeddings.encoding.clip import Clip
from sempre.embeddings.encoding.embedding_file import Embedding, Embeddings, EmbeddingWriter
from sempre.embeddings.encoding.grid import Grid
from sempre.errors import InputError
from sempre.scan.preview import Preview

TEMPERATURE = 0.01  # that CLIP was trained with, about


def text_scores(
    preview: Preview,
    grid: Grid,
    side: int,
    prompts: Sequence[str],
    without: Sequence[str],
    clip: str | Path,
    embeddings: str | Path = "runs/embeddings",
) -> np.ndarray:
    """How well the patches of `side` px at the cells of `grid` fit one of the `prompts`, float64 `[rows * columns]`.

    The cosine between patch and the nearest prompt; with prompts of what is not sought, `without`, the probability
    that one of the sought is meant, as CLIP gives it. Patches are embedded once and kept in `embeddings` by content.

    Raises:
        InputError: without prompts or a model, see `sempre.embeddings.encoding.clip`.
    """
    if not [prompt for prompt in prompts if prompt.strip()]:
        raise InputError("no text says what is sought: give for example text=[cracks]")
    if not clip:
        raise InputError("searching by text needs CLIP's weights: give their folder, clip=FOLDER")
    model = Clip(clip)
    directions = _kept(preview, grid, side, model, Path(embeddings))
    cosines = directions @ model.words([*prompts, *without]).T.astype(np.float64)
    if not without:
        return cosines.max(axis=1)
    odds = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / TEMPERATURE)
    return odds[:, : len(prompts)].sum(axis=1) / odds.sum(axis=1)


def _kept(preview: Preview, grid: Grid, side: int, model: Clip, folder: Path) -> np.ndarray:
    """The patches' directions `[rows * columns, D]`, from the file where they are in it."""
    settings = {
        "encoder_checksum": model.checksum,
        "cell": grid.cell,
        "class_token": False,
        "width": model.width,
        "side": side,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    path = folder / f"{digest[:16]}.h5"
    folder.mkdir(parents=True, exist_ok=True)
    (sha256,) = preview.sha256s
    with EmbeddingWriter(path, settings) as writer:
        if sha256 not in writer.known:
            places = np.stack(np.meshgrid(np.arange(grid.rows), np.arange(grid.columns), indexing="ij"), axis=-1)
            directions = model.patches(preview.pixels, (places.reshape(-1, 2) + 0.5) * grid.cell, side)
            writer.append([Embedding(sha256, grid, directions.reshape(grid.rows, grid.columns, -1), None)])
    with Embeddings(path) as stored:
        return stored[sha256].cells.reshape(grid.cells, -1)
