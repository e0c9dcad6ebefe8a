"""Augmented views of a store's micrographs, for methods that compare several views of one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, radians, sin

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from sempre.data.samplers import AUGMENT, CROP, generator, random_crop
from sempre.data.store import Store
from sempre.errors import InputError
from sempre.images.normalise import MEAN, STD

WINDOWS = 32  # draws among which a view finds a window that shows something
GRID = 64  # the field is averaged to about this many cells a side to judge windows by


@dataclass(frozen=True)
class View:
    """How a view is made of a field. Grey levels count from 0 to 1.

    There is no hue, and no change of aspect ratio: the shape of a particle carries meaning.
    """

    size: int  # side of the view, px
    scale: tuple[float, float] = (0.2, 1.0)  # smallest and largest share of the field's area that is cut out
    rotation: float = 15.0  # largest turn to either side in degrees; flips and quarter turns come on top
    brightness: float = 0.2  # largest shift of all grey levels
    contrast: float = 0.4  # largest relative change of the distances from the mean grey level
    blur: float = 0.5  # probability of a gaussian blur
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # least and largest deviation of its kernel, px of the view
    noise: float = 0.05  # largest deviation of the noise


class ViewDataset(Dataset):
    """Augmented views of one random square field of every micrograph an epoch.

    An item's key is (epoch, sample), as `EpochSampler` yields them; sample counts into `indices`. The field's corner is
    a function of (seed, epoch, index row of the micrograph), each view one of these and of the view's number. An epoch
    that is kept constant gives the fixed views of validation.

    An item is a dict of one float32 tensor `[count, 1, size, size]` a group, normalised, under the group's name, with
    `sample` (index row in the store) and `epoch`.

    Args:
        store: where the micrographs are.
        indices: index rows of one split, `[N]`.
        groups: for each name how its views are made, and how many there are.
        field: side in px of the square that all views of a sample are cut from; of a smaller micrograph it is the
            shorter side.
        seed: of fields and views.

    Raises:
        InputError: for no indices.
    """

    def __init__(
        self,
        store: Store,
        indices: Sequence[int] | np.ndarray,
        groups: dict[str, tuple[View, int]],
        field: int = 640,
        seed: int = 0,
    ):
        self.store, self.indices = store, np.asarray(indices)
        self.groups, self.field, self.seed = groups, field, seed
        if not len(self.indices):
            raise InputError(f"no micrograph of {store.path} is in this split: add images")

    def __len__(self) -> int:
        return len(self.indices)

    def name_of(self, sample: int) -> str:
        """The file of a sample."""
        return self.store.file_of(int(self.indices[sample]))

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor | int]:
        epoch, sample = key
        index = int(self.indices[sample])
        field = self._read_field(epoch, index)
        windows = WindowDeviation(field)
        item, number = {}, 0
        for name, (view, count) in self.groups.items():
            draws = [generator(self.seed, epoch, index, AUGMENT, number + place) for place in range(count)]
            item[name] = torch.stack([augmented_view(field, windows, view, draw) for draw in draws])
            number += count
        return item | {"sample": index, "epoch": epoch}

    def _read_field(self, epoch: int, index: int) -> np.ndarray:
        height, width = int(self.store.entries.height[index]), int(self.store.entries.width[index])
        side = min(self.field, height, width)
        y, x = random_crop(height, width, side, generator(self.seed, epoch, index, CROP))
        return self.store.crop(index, y, x, side, side)


def collate_views(samples: list[dict], with_samples: bool = False) -> dict[str, Tensor]:
    """A batch of `[B, count, 1, size, size]` a group: the batch first, so that it can be split by its samples.

    `with_samples` adds `sample`, int64 `[B]`: the micrographs' index rows in the store.
    """
    left_out = ("epoch",) if with_samples else ("epoch", "sample")
    return default_collate([{k: v for k, v in sample.items() if k not in left_out} for sample in samples])


def augmented_view(field: np.ndarray, windows: "WindowDeviation", view: View, draws: np.random.Generator) -> Tensor:
    """One view, float32 `[1, size, size]` and normalised, of a field of grey values, uint8 `[S, S]`.

    Geometry (window, turn, flips), then what a microscope varies: contrast and brightness, focus, noise.
    """
    angle = float(draws.uniform(-view.rotation, view.rotation))
    turn = abs(cos(radians(angle))) + abs(sin(radians(angle)))
    y, x, side = random_window(windows, view.scale, turn, draws)
    image = torch.from_numpy(field[y : y + side, x : x + side]).unsqueeze(0).float() / 255
    # A larger window is turned and its middle kept, so that no corner is empty.
    margin = ceil(view.size * (turn - 1) / 2) + 1 if angle else 0
    image = transforms.resize(image, [view.size + 2 * margin] * 2, antialias=True)
    image = transforms.rotate(image, angle, InterpolationMode.BILINEAR)
    image = transforms.center_crop(image, [view.size, view.size])
    image = torch.rot90(image, int(draws.integers(4)), (1, 2))
    if draws.random() < 0.5:
        image = image.flip(2)

    mean = image.mean()
    image = mean + (image - mean) * draws.uniform(1 - view.contrast, 1 + view.contrast)
    image = (image + draws.uniform(-view.brightness, view.brightness)).clamp(0, 1)
    if draws.random() < view.blur:
        sigma = float(draws.uniform(*view.blur_sigma))
        reach = min(ceil(3 * sigma), view.size - 1)
        image = transforms.gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2)
    # The detector's noise, and shot noise, whose variance grows with the grey level.
    deviation = draws.uniform(0, view.noise) * ((1 + image) / 2).sqrt()
    noise = torch.from_numpy(draws.standard_normal(image.shape, dtype=np.float32))
    return (image + deviation * noise).clamp(0, 1).sub(MEAN).div(STD)


def random_window(
    windows: "WindowDeviation", scale: tuple[float, float], turn: float, draws: np.random.Generator
) -> tuple[int, int, int]:
    """The corner (y, x) and side in px of a random square window that shows something.

    A view that is turned by some angle takes a window `turn` = |cos| + |sin| times as wide as itself, which no share of
    the field's area in `scale` carries beyond the field.

    Micrographs of particles are largely empty ground, on which two views have nothing in common but noise. Of
    `WINDOWS` draws the first whose grey-level deviation is at least half the field's is taken, else the one of the
    highest; in a field that is full everywhere this is the first.
    """
    share = draws.uniform(*scale, WINDOWS)
    side = np.clip(np.sqrt(share) * windows.field * turn, 1, windows.field).astype(int)
    corner = (draws.random((2, WINDOWS)) * (windows.field - side + 1)).astype(int)
    # Only the upright square inside the turned one is sure to be seen.
    seen = side / turn**2
    y, x = corner + (side - seen) / 2
    deviation = windows.deviation(y, x, seen)
    shows = deviation >= windows.deviation(0, 0, windows.field) / 2
    chosen = int(shows.argmax() if shows.any() else deviation.argmax())
    return int(corner[0, chosen]), int(corner[1, chosen]), int(side[chosen])


class WindowDeviation:
    """The grey-level deviation of any square window of a field, uint8 `[S, S]`, in constant time.

    Of the field averaged over cells, so that noise counts little, by integral images of the levels and their squares
    (Viola and Jones, "Rapid object detection", CVPR 2001).
    """

    def __init__(self, field: np.ndarray):
        self.field = field.shape[0]
        self.cell = max(1, self.field // GRID)
        side = self.field // self.cell
        kept = field[: side * self.cell, : side * self.cell]
        rows = kept.reshape(side, self.cell, -1).sum(1, dtype=np.uint32)
        cells = rows.reshape(side, side, self.cell).sum(2) / self.cell**2
        cells -= cells.mean()  # which changes no deviation, and keeps the squares small
        sums = np.stack([cells, cells**2]).cumsum(1).cumsum(2)
        self.sums = np.pad(sums, [(0, 0), (1, 0), (1, 0)])

    def deviation(self, y: np.ndarray | int, x: np.ndarray | int, side: np.ndarray | int) -> np.ndarray:
        """Of the windows with corners (y, x) and sides in px, each `[N]`: `[N]`, to the nearest cell."""
        last = self.sums.shape[1] - 1
        top, left = (np.minimum(np.rint(np.asarray(corner) / self.cell), last - 1).astype(int) for corner in (y, x))
        cells = np.maximum(np.rint(np.asarray(side) / self.cell), 1).astype(int)
        bottom, right = np.minimum(top + cells, last), np.minimum(left + cells, last)
        total = self.sums[:, bottom, right] - self.sums[:, top, right]
        total = total - self.sums[:, bottom, left] + self.sums[:, top, left]
        mean, square = total / ((bottom - top) * (right - left))
        return np.sqrt(np.maximum(square - mean**2, 0))
