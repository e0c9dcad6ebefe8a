"""Random crops of labelled micrographs with the maps that a dense segmenter learns, for training it."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset

from sempre.data.detection_crops import DetectionCrops, boundaries
from sempre.data.samplers import VARIETY, generator
from sempre.synthetic.annotations import annotate, write_over

STRIDE = 2  # px of a crop for each px of the maps


class DenseCrops(Dataset):
    """Crops of several labelled sets, each with its share, varied as microscopes and publications differ.

    An item's key is (epoch, sample), as `EpochSampler` yields them; all randomness is a function of (seed, epoch,
    sample). An item is a dict: `image` float32 `[1, S, S]` in [0, 1]; `foreground`, `depth` and `boundary` float32
    `[S / 2, S / 2]`, at half the resolution. Depth is that in the whole micrograph, whatever the crop shows of it.

    Args:
        sources: crops of each labelled set, with their depths.
        shares: how probable each source is.
        count: items an epoch.
        seed: of all draws.
        inverted: share of the crops whose grey values are inverted.
        annotated: share of the crops that scale bars, letters and the like are burnt into, which are no particles.
    """

    def __init__(
        self,
        sources: Sequence[DetectionCrops],
        shares: Sequence[float],
        count: int,
        seed: int = 0,
        inverted: float = 0.3,
        annotated: float = 0.3,
    ):
        self.sources, self.shares = list(sources), np.array(shares) / np.sum(shares)
        self.count, self.seed, self.inverted, self.annotated = count, seed, inverted, annotated

    def __len__(self) -> int:
        return self.count

    def name_of(self, sample: int) -> str:
        """What a sample shows changes with the epoch; the sets that it is drawn from."""
        return f"sample {sample} of {', '.join(str(source.labelled.folder) for source in self.sources)}"

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        return self.item(*self.crop(key))

    def item(self, image: np.ndarray, labels: np.ndarray, depths: np.ndarray) -> dict[str, Tensor]:
        """The image with the maps that are learnt from it."""
        maps = {"foreground": labels > 0, "depth": depths * (labels > 0), "boundary": boundaries(labels)}
        maps = {name: torch.from_numpy(halved(values)) for name, values in maps.items()}
        return {"image": torch.from_numpy(image)[None], **maps}

    def crop(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What an item shows, `[S, S]` each: the varied image in [0, 1], its label image, and the depths in [0, 1]."""
        epoch, sample = key
        draws = generator(self.seed, epoch, sample, VARIETY)
        source = self.sources[int(draws.choice(len(self.sources), p=self.shares))]
        # One of a source's crops, at a magnification and place of its own: its epoch is the sample's number.
        (pixels, depths), layers = source.crop((epoch * self.count + sample, int(draws.integers(len(source)))))
        labels = layers.max(axis=0).astype(np.int32)
        if draws.random() < self.annotated:
            pixels, labels = annotated(np.rint(pixels).astype(np.uint8), labels, draws)
        return vary(pixels, draws, self.inverted), labels, depths / 255


def annotated(pixels: np.ndarray, labels: np.ndarray, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 and labels `[H, W]` with what is burnt into pictures, of a whole one's size or enlarged."""
    if draws.random() < 0.3:
        return annotate(pixels, labels, float(np.exp(draws.uniform(0, 5))), draws)
    return write_over(pixels, labels, draws)


def vary(pixels: np.ndarray, draws: np.random.Generator, inverted: float = 0.3) -> np.ndarray:
    """Grey values `[H, W]` as another microscope, operator or journal would show them, float32 in [0, 1].

    Polarity, range, gamma, contrast, brightness, sharpness and noise.
    """
    image = pixels.astype(np.float32) / 255
    if draws.random() < inverted:
        image = 1 - image
    low, high = np.percentile(image[::2, ::2], [draws.uniform(0, 2), draws.uniform(98, 100)])
    image = np.clip((image - low) / max(high - low, 0.05), 0, 1) ** np.float32(np.exp(draws.uniform(-0.6, 0.6)))
    image = (image - 0.5) * np.exp(draws.uniform(-0.6, 0.2)) + 0.5 + draws.uniform(-0.15, 0.15)
    blurred, noisy = draws.random(2) < (0.3, 0.5)
    if blurred:
        image = ndimage.gaussian_filter(image, draws.uniform(0.3, 1.5), truncate=3)
    if noisy:
        noise = draws.standard_normal(image.shape, dtype=np.float32)
        image = image + np.float32(draws.uniform(0.01, 0.12)) * noise
    return np.clip(image, 0, 1).astype(np.float32)


def halved(values: np.ndarray) -> np.ndarray:
    """Means of 2x2 px, float32 `[h / 2, w / 2]`: of a mask they tell where between two pixels the outline lies."""
    height, width = values.shape
    return values.reshape(height // STRIDE, STRIDE, width // STRIDE, STRIDE).mean((1, 3), dtype=np.float32)
