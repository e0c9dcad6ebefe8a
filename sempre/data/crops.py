"""Random crops of a store's micrographs, and of images and masks in memory."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sempre.data.samplers import CROP, generator, random_crop
from sempre.data.store import Store
from sempre.errors import InputError
from sempre.images.normalise import MEAN, STD


class CropDataset(Dataset):
    """One random crop of every micrograph an epoch, without any scaling: the pixel size carries meaning.

    An item's key is (epoch, sample), as `EpochSampler` yields them; sample counts into `indices`. Corner, flip and turn
    are functions of (seed, epoch, index row of the micrograph), so no number of workers or ranks changes a crop, nor
    does the other split. An epoch that is kept constant gives the fixed crops of validation.

    An item is a dict of `image` (`[1, size, size]`), `sample` (index row in the store) and `epoch`: the last two are
    the key under which a mask for this crop may be drawn. The image is float32 and normalised or, with
    `normalise=False`, uint8 as stored: a quarter of the bytes from worker to GPU, where `normalise_batch` takes over.

    Args:
        store: where the micrographs are.
        indices: index rows of one split, `[N]`.
        size: side of the crop in px.
        flip: probability of a horizontal flip.
        seed: of corners and flips.
        reflect: continue a micrograph smaller than the crop by its mirror image, in place of an error.
        normalise: whether the items are normalised, or left to `normalise_batch`.
        turn: turn by a random number of quarter turns, too.

    Raises:
        InputError: for no indices, or a micrograph smaller than the crop (naming it) without `reflect`.
    """

    def __init__(
        self,
        store: Store,
        indices: Sequence[int] | np.ndarray,
        size: int = 640,
        flip: float = 0.5,
        seed: int = 0,
        reflect: bool = False,
        normalise: bool = True,
        turn: bool = False,
    ):
        self.store, self.indices = store, np.asarray(indices)
        self.size, self.flip, self.seed, self.normalise, self.turn = size, flip, seed, normalise, turn
        if not len(self.indices):
            raise InputError(f"no micrograph of {store.path} is in this split: add images")
        short_side = np.minimum(store.entries.height, store.entries.width)[self.indices]
        small = self.indices[short_side < size]
        if len(small) and not reflect:
            height, width = store.entries.height[small[0]], store.entries.width[small[0]]
            raise InputError(
                f"{len(small)} of {len(self.indices)} micrographs are smaller than the {size} px crop, the first is "
                f"{store.file_of(small[0])} ({height}x{width} px): take crops of at most {short_side.min()} px"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def name_of(self, sample: int) -> str:
        """The file of a sample."""
        return self.store.file_of(int(self.indices[sample]))

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor | int]:
        epoch, sample = key
        index = int(self.indices[sample])
        draws = generator(self.seed, epoch, index, CROP)
        height, width = int(self.store.entries.height[index]), int(self.store.entries.width[index])
        y, x = random_crop(height, width, self.size, draws)
        pixels = self.store.crop(index, y, x, min(self.size, height), min(self.size, width))
        if pixels.shape != (self.size, self.size):
            missing = [(0, self.size - side) for side in pixels.shape]
            pixels = np.pad(pixels, missing, mode="reflect" if min(pixels.shape) > 1 else "edge")
        image = torch.from_numpy(pixels).unsqueeze(0)
        if draws.random() < self.flip:
            image = image.flip(-1)
        if self.turn:
            image = image.rot90(int(draws.integers(4)), (-2, -1))
        return {"image": normalise_batch(image) if self.normalise else image, "sample": index, "epoch": epoch}


def normalise_batch(image: torch.Tensor) -> torch.Tensor:
    """Stored grey values, uint8 `[..., H, W]` on any device, as the float32 that networks take; float32 stays."""
    if image.dtype == torch.float32:
        return image
    return image.to(torch.float32).div_(255).sub_(MEAN).div_(STD)


class MaskCrops(Dataset):
    """Square crops, turned by quarter turns and mirrored, of images float `[C, h, w]` and masks bool `[h, w]`.

    An epoch has `count` items, whatever the number of images: item i shows image i modulo their number, so that a
    network sees as many crops an epoch from few images as from many. An item's key is (epoch, sample), as
    `EpochSampler` yields them; all draws are a function of (seed, epoch, sample). It is a dict of `image` float32
    `[C, size, size]` and `mask` float32 `[1, size, size]`. What lies outside a smaller image is its mirror image.
    Without `turn` they are neither turned nor mirrored.

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
        turn: bool = True,
    ):
        if not len(images):
            raise InputError("there are no micrographs to train on: add images, or raise label_share")
        self.images, self.masks, self.names = images, masks, names
        self.size, self.count, self.seed, self.turn = size, count, seed, turn

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
        if self.turn:
            layers = np.rot90(layers, int(draws.integers(4)), axes=(1, 2))
            if draws.random() < 0.5:
                layers = layers[:, :, ::-1]
        layers = torch.from_numpy(np.ascontiguousarray(layers))
        return {"image": layers[:-1], "mask": layers[-1:]}
