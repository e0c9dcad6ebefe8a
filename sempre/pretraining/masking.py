"""Which patches of a crop are hidden."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from sempre.data.crops import MASK, generator
from sempre.models.masked.packed import PATCH


def random_visible(patches: int, mask_ratio: float, seed: int, epoch: int, sample: int) -> np.ndarray:
    """Ids of the patches of one crop that stay visible, rising, int64 `[K]`, K = patches - round(patches * mask_ratio).

    A function of (seed, epoch, sample) alone. At least one patch is hidden and one visible.
    """
    kept = min(max(patches - round(patches * mask_ratio), 1), patches - 1)
    return np.sort(generator(seed, epoch, sample, MASK).permutation(patches)[:kept])


def mask_and_collate(samples: list[dict], crop: int, mask_ratio: float, seed: int) -> dict[str, Tensor]:
    """A batch of `image` (uint8 `[B, 1, crop, crop]`) and `visible [B, K]`; masks depend on (seed, epoch, sample)."""
    patches = (crop // PATCH) ** 2
    visible = [random_visible(patches, mask_ratio, seed, sample["epoch"], sample["sample"]) for sample in samples]
    return {
        "image": default_collate([sample["image"] for sample in samples]),
        "visible": torch.from_numpy(np.stack(visible)),
    }
