"""CLIP: micrographs' patches and words in one space (Radford et al., ICML 2021), by the library transformers.

Weights come from a folder on this machine; nothing is downloaded.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from sempre.errors import InputError, how_to_install
from sempre.files import file_sha256

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
