"""Random crops of images and foreground masks that are already in memory, for training a segmentation network."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sempre.data.crops import CROP, generator, random_crop
from sempre.errors import InputError


class MaskCrops(Dataset):
    """Square crops, turned by quarter turns and mirrored, of images float `[C, h, w]` and masks bool `[h, w]`.

    An epoch has `count` items, whatever the number of images: item i shows image i modulo their number, so that a
    network sees as many crops an epoch from few images as from many. An item's key is (epoch, sample), as
    `EpochSampler` yields them; all draws are a function of (seed, epoch, sample). It is a dict of `image` float32
    `[C, size, size]` and `mask` float32 `[1, size, size]`. What lies outside a smaller image is its mirror image.

    Raises:
        InputError: for no images.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        names: Sequence[str],
        size: int,
        count: int,
        seed: int = 0,
    ):
        if not len(images):
            raise InputError("there are no micrographs to train on: add images, or raise label_share")
        self.images, self.masks, self.names = images, masks, names
        self.size, self.count, self.seed = size, count, seed

    def __len__(self) -> int:
        return self.count

    def name_of(self, sample: int) -> str:
        """The micrograph of a sample."""
        return self.names[sample % len(self.names)]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, sample = key
        image, mask = (layers[sample % len(layers)] for layers in (self.images, self.masks))
        draws = generator(self.seed, epoch, sample, CROP)
        height, width = mask.shape
        y, x = random_crop(height, width, self.size, draws)
        layers = np.concatenate([image, mask[None]])[:, y : y + self.size, x : x + self.size].astype(np.float32)
        missing = [(0, self.size - side) for side in layers.shape[1:]]
        layers = np.pad(layers, [(0, 0), *missing], mode="symmetric")
        layers = np.rot90(layers, int(draws.integers(4)), axes=(1, 2))
        if draws.random() < 0.5:
            layers = layers[:, :, ::-1]
        layers = torch.from_numpy(np.ascontiguousarray(layers))
        return {"image": layers[:-1], "mask": layers[-1:]}
