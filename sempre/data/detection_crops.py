"""Random crops of labelled micrographs, for training a detector; and how deep in its instance each pixel lies."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from skimage.measure import label as connected_components
from torch import Tensor
from torch.utils.data import Dataset

from sempre.data.labelled import LabelledMicrograph, LabelledSet
from sempre.data.samplers import AUGMENT, generator
from sempre.errors import InputError
from sempre.images.normalise import to_uint8


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Pixels of a label image `[h, w]` of which a neighbour (of four) belongs to something else, bool `[h, w]`."""
    found = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        before, after = [slice(None)] * 2, [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        found[tuple(before)] |= differs
        found[tuple(after)] |= differs
    return found


def depth(labels: np.ndarray) -> np.ndarray:
    """The distance to the instance's outline over the largest in the instance, float32 `[h, w]`, 0 in the ground.

    Naylor et al., IEEE Trans. Medical Imaging 2019, made independent of size. The border of the image is no outline:
    what it cuts goes on behind it.
    """
    foreground = labels > 0
    inner = foreground & ~boundaries(labels)
    if inner.all():
        return foreground.astype(np.float32)
    # An outline lies between pixels, half a pixel from the centres of those next to it.
    distance = (ndimage.distance_transform_edt(inner) + 0.5) * foreground
    deepest = np.full(int(labels.max()) + 1, 0.5)
    np.maximum.at(deepest, labels.ravel(), distance.ravel())
    return (distance / deepest[labels]).astype(np.float32)


MIN_PIXELS = 16  # an instance cut off by the crop's border is kept when at least this much of it is seen,
MIN_VISIBLE = 0.1  # and at least this share
SCALES = 0.1, 3.0  # magnifications that `size_range` may ask for
DRAWS, DENSE_DRAWS = 4, 2  # a crop without instances is drawn again, so many times in all; ground is learnt from too


class DetectionCrops(Dataset):
    """Random crops with instances as torchvision's detectors take them.

    An item's key is (epoch, sample), as `EpochSampler` yields them; all randomness is a function of (seed, epoch,
    position in the labelled set, repeat). An item is `(image, target)`: float32 `[1, size, size]` in [0, 1], and
    `boxes` float32 `[N, 4]` (x0, y0, x1, y1, exclusive ends, px), `labels` int64 ones `[N]`, `masks` uint8
    `[N, size, size]`. N may be 0: of up to four draws the first that shows an instance is taken, else the last.

    Args:
        labelled: the labelled set.
        indices: positions of one of its splits, `[N]`.
        size: side of the crop in px.
        seed: of all draws.
        repeats: crops of every micrograph an epoch.
        flip: mirror at random, and turn by a random multiple of 90 degrees.
        scale_range: magnification drawn log-uniformly between these.
        size_range: instead of it, the equivalent diameter in px, drawn log-uniformly between these, that one of the
            micrograph's instances gets; large ones are chosen more often, by diameter.
        rotation: free rotation by up to this many degrees either way.
        brightness: added, up to this much either way.
        contrast: grey values are spread about 0.5 by a factor of up to 1 + contrast, or its inverse.
        pad: what lies outside of the micrograph: "zero", or "reflect" its mirror image, whose instances count as
            further ones; "error" refuses micrographs smaller than the crop and is zero in corners that rotation opens.
        depths: cut the instances' depth (`sempre.data.detection_crops`) with the pixels; `crop` shows it as a second
            channel.
        cache: keep the micrographs in memory (uint8 pixels, uint16 labels).

    Raises:
        InputError: for no indices, a micrograph or labels that cannot be used (each is read once here, so that none
            stops a training), or a micrograph smaller than the crop with `pad="error"`.
    """

    def __init__(
        self,
        labelled: LabelledSet,
        indices: Sequence[int] | np.ndarray,
        size: int = 256,
        seed: int = 0,
        *,
        repeats: int = 1,
        flip: bool = True,
        scale_range: tuple[float, float] = (1.0, 1.0),
        size_range: tuple[float, float] | None = None,
        rotation: float = 0.0,
        brightness: float = 0.1,
        contrast: float = 0.2,
        pad: str = "zero",
        depths: bool = False,
        cache: bool = True,
    ):
        if pad not in ("zero", "reflect", "error"):
            raise InputError(f"pad={pad} is unknown: choose zero, reflect or error")
        if not 0 < scale_range[0] <= scale_range[1]:
            raise InputError(f"scale_range={list(scale_range)} is empty: give [smallest, largest] magnification")
        if not len(indices):
            raise InputError(f"no micrograph of {labelled.folder} is in this split: add images")
        self.labelled, self.indices, self.size, self.seed = labelled, np.asarray(indices), size, seed
        self.repeats, self.flip, self.rotation = repeats, flip, rotation
        self.scale_range, self.size_range = scale_range, size_range
        self.brightness, self.contrast, self.pad, self.depths = brightness, contrast, pad, depths
        self._cache: dict[int, LabelledMicrograph] = {}
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for index, micrograph in zip(self.indices.tolist(), threads.map(self._read, self.indices), strict=True):
                if cache:
                    self._cache[index] = micrograph

    def __len__(self) -> int:
        return len(self.indices) * self.repeats

    def name_of(self, sample: int) -> str:
        """The file of a sample."""
        return str(self.labelled.images[int(self.indices[sample % len(self.indices)])])

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        image, layers, areas, draws = self._crop(key)
        contrast = (1 + self.contrast) ** draws.uniform(-1, 1)
        brightness = self.brightness * draws.uniform(-1, 1)
        image = torch.from_numpy(np.ascontiguousarray(image[:1])).to(torch.float32)
        image = image.div_(255).sub_(0.5).mul_(contrast).add_(0.5 + brightness).clamp_(0, 1)
        return image, detection_target(*visible_instances(layers, areas))

    def crop(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """What an item shows: pixels as they are and, with `depths`, the depths behind them, `[C, S, S]` from 0 to 255;
        and all label layers `[L, S, S]`, slivers too."""
        image, layers, *_ = self._crop(key)
        return image, layers

    def _crop(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
        """Pixels, layers and whole areas of the first draw that shows an instance, and the generator behind it."""
        epoch, sample = key
        repeat, position = divmod(sample, len(self.indices))
        index = int(self.indices[position])
        micrograph = self._cache.get(index) or self._read(index)
        draws = generator(self.seed, epoch, index, repeat, AUGMENT)
        image, layers, areas = self._draw(micrograph, draws)
        for _ in range((DENSE_DRAWS if self.depths else DRAWS) - 1):
            if visible_instances(layers, areas)[1]:
                break
            image, layers, areas = self._draw(micrograph, draws)
        return image, layers, areas, draws

    def _read(self, index: int) -> LabelledMicrograph:
        """The micrograph, its `pixels` as channels `[C, H, W]`."""
        micrograph = self.labelled.read(index)
        height, width = micrograph.pixels.shape
        side = int(np.ceil(self.size / self.scale_range[0]))
        if self.pad == "error" and min(height, width) < side:
            raise InputError(
                f"{self.labelled.images[index]} is {height}x{width} px, smaller than the crop of {side} px: "
                "take smaller crops, or pad=zero"
            )
        channels = [micrograph.pixels]
        if self.depths:
            channels.append(to_uint8(np.max([depth(layer) for layer in micrograph.layers], axis=0)))
        return replace(micrograph, pixels=np.stack(channels))

    def _draw(
        self, micrograph: LabelledMicrograph, draws: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One crop: channels `[C, S, S]`, layers `[L, S, S]`, and the whole instances' areas at the crop's scale."""
        scale = self._scale(micrograph, draws)
        shrinking = int(1 / scale)
        if shrinking > 1:
            micrograph, scale = _shrunk(micrograph, shrinking), scale * shrinking
        angle = np.deg2rad(self.rotation * draws.uniform(-1, 1))
        turns, mirrored = int(draws.integers(4)), draws.integers(2)
        side = self.size / scale
        centre = [_centre(length, side, draws) for length in micrograph.pixels.shape[1:]]
        if scale == 1 and angle == 0:
            corner = [round(middle - side / 2) for middle in centre]
            pixels, layers, areas = _window(micrograph, corner, self.size, self.pad, not self.depths)
        else:
            reach = side / 2 * (abs(np.cos(angle)) + abs(np.sin(angle))) + 2
            corner = [int(np.floor(middle - reach)) for middle in centre]
            window = _window(micrograph, corner, int(np.ceil(2 * reach)) + 1, self.pad, not self.depths)
            # In pixel-centre coordinates, the middle of a length is half a pixel before its half.
            middle = np.array(centre) - corner - 0.5
            pixels, layers, areas = _resample(*window, middle, scale, angle, self.size)
        if self.flip:
            pixels, layers = (np.rot90(part, turns, axes=(1, 2)) for part in (pixels, layers))
            if mirrored:
                pixels, layers = pixels[:, :, ::-1], layers[:, :, ::-1]
        return pixels, layers, areas

    def _scale(self, micrograph: LabelledMicrograph, draws: np.random.Generator) -> float:
        diameters = np.sqrt(4 / np.pi * micrograph.areas[1:])
        if self.size_range is None or not len(diameters):
            return float(np.exp(draws.uniform(*np.log(self.scale_range))))
        diameter = draws.choice(diameters, p=diameters / diameters.sum())
        wanted = np.exp(draws.uniform(*np.log(self.size_range)))
        return float(np.clip(wanted / diameter, *SCALES))


def visible_instances(layers: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, int]:
    """Drop the instances of which a crop shows less than 16 px or a tenth; one pass over the pixels.

    Args:
        layers: label layers `[L, S, S]`.
        areas: px of the whole instances, by id.

    Returns:
        The layers with the remaining ids renamed to 1..N, and N.
    """
    seen = np.bincount(layers.ravel(), minlength=len(areas))
    kept = (seen >= np.minimum(MIN_PIXELS, areas)) & (seen >= MIN_VISIBLE * areas) & (seen > 0)
    kept[0] = False
    renamed = np.zeros(len(areas), dtype=np.int32)
    renamed[kept] = np.arange(1, kept.sum() + 1)
    return renamed[layers], int(kept.sum())


def detection_target(layers: np.ndarray, instances: int) -> dict[str, Tensor]:
    """torchvision's target of label layers `[L, S, S]` with the ids 1 to `instances`, each in one layer."""
    masks = np.zeros((instances, *layers.shape[1:]), dtype=np.uint8)
    boxes = np.zeros((instances, 4), dtype=np.float32)
    for layer in layers:
        y, x = np.nonzero(layer)
        masks[layer[y, x] - 1, y, x] = 1
        for instance, found in enumerate(ndimage.find_objects(layer)):
            if found is not None:
                boxes[instance] = found[1].start, found[0].start, found[1].stop, found[0].stop
    return {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.ones(instances, dtype=torch.int64),
        "masks": torch.from_numpy(masks),
    }


def collate(items: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, list]:
    """A batch of `(image, target)` as the keyword arguments `images` and `targets` of a torchvision detector."""
    images, targets = zip(*items, strict=True)
    return {"images": list(images), "targets": list(targets)}


def _centre(length: int, side: float, draws: np.random.Generator) -> float:
    """Where the middle of a crop of `side` px lies along `length` px; a crop larger than that is centred."""
    free = length - side
    if free < 1:
        return length / 2
    # Whole pixels, so that an unscaled crop is cut and not resampled.
    return side / 2 + int(draws.integers(0, int(free) + 1))


def _shrunk(micrograph: LabelledMicrograph, factor: int) -> LabelledMicrograph:
    """The micrograph at a whole fraction of its size: means of the pixels, labels from the middle of each block."""
    height, width = (side // factor for side in micrograph.pixels.shape[1:])
    channels = micrograph.pixels[:, : height * factor, : width * factor]
    means = channels.reshape(len(channels), height, factor, width, factor).mean((2, 4), dtype=np.float32)
    middle = slice(factor // 2, None, factor)
    layers = micrograph.layers[:, middle, middle][:, :height, :width]
    return LabelledMicrograph((means + 0.5).astype(np.uint8), layers, micrograph.areas / factor**2)


def _window(
    micrograph: LabelledMicrograph, corner: Sequence[int], side: int, pad: str, apart: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The square of `side` px at `corner`, which may lie outside in part: channels, layers, areas.

    `apart` gives an instance's mirror image a number of its own.
    """
    height, width = micrograph.pixels.shape[1:]
    y, x = corner
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    pixels, layers = (part[:, top:bottom, left:right] for part in (micrograph.pixels, micrograph.layers))
    if pixels.shape[1:] == (side, side):
        return pixels, layers, micrograph.areas
    missing = [(0, 0), (top - y, y + side - bottom), (left - x, x + side - right)]
    mode = "symmetric" if pad == "reflect" else "constant"
    pixels, layers = (np.pad(part, missing, mode=mode) for part in (pixels, layers))
    if pad != "reflect" or not apart:
        return pixels, layers, micrograph.areas
    # An instance and its mirror image are two, unless they touch.
    named = np.zeros(layers.shape, dtype=np.int32)
    instances = 0
    for layer, named_layer in zip(layers, named, strict=True):
        parts = connected_components(layer)
        named_layer[parts > 0] = parts[parts > 0] + instances
        instances = max(instances, int(named_layer.max()))
    return pixels, named, np.bincount(named.ravel())


def _resample(
    pixels: np.ndarray, layers: np.ndarray, areas: np.ndarray, middle: np.ndarray, scale: float, angle: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A square of `size` px about `middle`, magnified by `scale` and turned by `angle` (radians)."""
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    warp = {"matrix": matrix, "offset": middle - matrix @ np.full(2, (size - 1) / 2), "output_shape": (size, size)}
    pixels = pixels.astype(np.float32)
    if scale < 1:  # what the coarser grid cannot show must not alias
        pixels = ndimage.gaussian_filter(pixels, (1 / scale - 1) / 2, axes=(1, 2))
    pixels = np.stack([ndimage.affine_transform(channel, order=1, **warp) for channel in pixels])
    layers = np.stack([ndimage.affine_transform(layer, order=0, **warp) for layer in layers])
    return pixels, layers, areas * scale**2
