"""Patches that look like what is written: CLIP, by the library transformers.

Weights come from a folder on this machine; nothing is downloaded.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from sempre.errors import InputError, how_to_install
from sempre.files import file_sha256
from sempre.frozen.embedding_file import Embedding, Embeddings, EmbeddingWriter
from sempre.frozen.encoder import Grid
from sempre.scan.preview import Preview

# Of the three channels, as CLIP was trained.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
BATCH = 64


class Clip:
    """A CLIP model in a folder as transformers' `save_pretrained` writes it, frozen, on the CPU.

    Raises:
        InputError: when transformers is not installed, or the folder lacks a file or holds another model.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        for name in (CONFIG, WEIGHTS, TOKENIZER):
            if not (folder / name).is_file():
                raise InputError(
                    f"searching by text needs CLIP's weights, and {folder / name} is not there: copy a model such as "
                    "openai/clip-vit-base-patch32 (config.json, model.safetensors, tokenizer.json) into a folder and "
                    "give clip=FOLDER"
                )
        try:
            from transformers import CLIPModel, PreTrainedTokenizerFast
        except ImportError:
            raise InputError(f"searching by text needs transformers: {how_to_install('scan')}") from None
        try:
            self.model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / TOKENIZER))
        except Exception as error:  # the library's own errors are many
            raise InputError(f"{folder} holds no CLIP model ({str(error).splitlines()[0]}): copy it again") from error
        self.model.eval().requires_grad_(False)
        self.checksum = file_sha256(folder / WEIGHTS)

    @property
    def width(self) -> int:
        return self.model.config.projection_dim

    @torch.inference_mode()
    def words(self, prompts: Sequence[str]) -> np.ndarray:
        """Directions float32 `[N, D]` of texts."""
        longest = self.model.config.text_config.max_position_embeddings
        directions = []
        for prompt in prompts:  # one by one, so that none needs padding
            tokens = self.tokenizer(prompt, truncation=True, max_length=longest, return_tensors="pt")
            features = self.model.text_model(tokens["input_ids"]).pooler_output
            directions.append(functional.normalize(self.model.text_projection(features), dim=-1)[0])
        return torch.stack(directions).numpy()

    @torch.inference_mode()
    def patches(self, pixels: np.ndarray, centres: np.ndarray, side: int) -> np.ndarray:
        """Directions float32 `[N, D]` of the squares of `side` px about `centres` (y, x in px) `[N, 2]` of grey values
        uint8 `[H, W]`; beyond the border the micrograph is mirrored."""
        margin = side
        padded = torch.from_numpy(np.pad(pixels, margin, "reflect" if margin < min(pixels.shape) else "symmetric"))
        corners = np.rint(centres - side / 2).astype(int) + margin
        size = self.model.config.vision_config.image_size
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        directions = []
        for start in range(0, len(corners), BATCH):
            crops = torch.stack([padded[y : y + side, x : x + side] for y, x in corners[start : start + BATCH]])
            images = functional.interpolate(crops[:, None].float() / 255, (size, size), mode="bicubic")
            features = self.model.vision_model((images.clamp(0, 1) - mean) / std).pooler_output
            directions.append(functional.normalize(self.model.visual_projection(features), dim=-1))
        return torch.cat(directions).numpy()


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
        InputError: without prompts or a model, see `sempre.scan.text`.
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
