"""Labelled sets: micrographs with instance label images or COCO annotations."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sempre.data.labels.coco import coco_layers, read_coco
from sempre.data.labels.share import Share, one_by_one
from sempre.data.labels.sides import Sides, make_sides, read_split_file
from sempre.data.stores.split import split_in_three
from sempre.errors import InputError
from sempre.files import file_sha256
from sempre.images import (
    find_micrographs,
    percentile_normalise,
    percentile_normalise_to_uint8,
    read_labels,
    read_micrograph,
)
from sempre.images.reading.read import IMAGE_FOLDERS, LABEL_FOLDERS

LABEL_SUFFIXES = (".png", ".tif", ".tiff")
SIDE_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
SAME = 1.05  # pixel sizes whose ratio is at most this are of one magnification


@dataclass(frozen=True)
class LabelledMicrograph:
    """A micrograph and its instances.

    `pixels` uint8 `[H, W]`, percentile-normalised; `layers` uint16 or int32 `[L, H, W]`, label images with 0 =
    background and ids 1 to N over all layers: one layer, and more where instances overlap; `areas` int64 `[N + 1]` in
    px, by id; `pixel_size_nm` where the file or a sidecar states it.
    """

    pixels: np.ndarray
    layers: np.ndarray
    areas: np.ndarray
    pixel_size_nm: float | None = None

    @property
    def foreground(self) -> np.ndarray:
        """What any instance covers, bool `[H, W]`."""
        return np.any(self.layers, axis=0)


class LabelledSet:
    """Micrographs in `folder/images` with label images of the same stem in `folder/labels` or `folder/segmaps`, or with
    COCO annotations (`coco=`, else `folder/annotations.json`), whose files lie in `folder/images` or `folder`.

    Micrographs may lie in `samples/` in place of `images/`, and in sub-folders of it, with labels in the same
    sub-folders or in none. A folder may be divided: `train/`, `validation/` (or `val/`) and `test/` with such folders
    each, and what else lies there is left alone.

    Nothing but names is read before `read`. `names` are the stems, sorted; `images` the micrographs' paths.

    Raises:
        InputError: for a missing or empty folder, a micrograph without labels, two micrographs of one stem,
            a COCO file that lists a missing one.
    """

    def __init__(
        self,
        folder: str | Path,
        coco: str | Path | None = None,
        percentiles: tuple[float, float] = (1.0, 99.0),
    ):
        self.folder, self.percentiles = Path(folder), percentiles
        if not self.folder.is_dir():
            raise InputError(f"{folder} does not exist: give the folder that holds images/ and labels/")
        if coco and not Path(coco).is_file():
            raise InputError(f"{coco} does not exist: give a COCO instance file")
        coco = Path(coco) if coco else self.folder / "annotations.json"
        parts = {part: _first_folder(self.folder / part, LABEL_FOLDERS) for part in SIDE_FOLDERS}
        parts = {part: labels for part, labels in parts.items() if labels}
        # Of each micrograph: its label image, or its entry in the COCO file; and the side it lies in, if in one.
        self._labels: Mapping[Path, Path | dict]
        self._side_of: dict[Path, str] = {}
        if coco.is_file():
            self._source = coco
            self._labels = {self._find_image(name): annotated for name, annotated in read_coco(coco).items()}
        elif labels := _first_folder(self.folder, LABEL_FOLDERS):
            self._source = labels
            self._labels = _pairs(self.folder, labels)
        elif parts:
            self._source = self.folder
            pairs_of = {part: _pairs(self.folder / part, labels) for part, labels in parts.items()}
            self._labels = {image: file for pairs in pairs_of.values() for image, file in pairs.items()}
            self._side_of = {image: SIDE_FOLDERS[part] for part, pairs in pairs_of.items() for image in pairs}
        else:
            raise InputError(
                f"{folder} has no labels: put label images into labels/ or segmaps/, or COCO's annotations.json there"
            )
        self.images = sorted(self._labels, key=lambda file: file.stem)
        self.names = [file.stem for file in self.images]
        if not self.images:
            raise InputError(f"{self._source} lists no images")
        for first, second in zip(self.images, self.images[1:], strict=False):
            if first.stem == second.stem:
                raise InputError(f"{first} and {second} share the stem {first.stem}: rename one of them")

    @property
    def paths(self) -> dict[str, Path]:
        """The micrographs' paths by name."""
        return dict(zip(self.names, self.images, strict=True))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> LabelledMicrograph:
        """A micrograph with its instances, ids made contiguous.

        Raises:
            InputError: for an unreadable file, or labels whose size differs from the micrograph's.
        """
        image = self.images[index]
        labels = self._labels[image]
        micrograph = read_micrograph(image)
        pixels = micrograph.pixels
        if isinstance(labels, Path):
            layers = read_labels(labels)[None]
            _check_size(image, pixels.shape, labels, layers.shape[1:])
        else:
            _check_size(image, pixels.shape, self._source, (labels["height"], labels["width"]))
            layers = coco_layers(labels, self._source)
        layers, areas = _contiguous(layers)
        grey = percentile_normalise_to_uint8(pixels, *self.percentiles)
        return LabelledMicrograph(grey, layers, areas, micrograph.pixel_size_nm)

    def normalised(self, index: int) -> np.ndarray:
        """A micrograph as `sempre segment` shows it to a network: float32 `[H, W]`, by the set's percentiles."""
        return percentile_normalise(read_micrograph(self.images[index]).pixels, *self.percentiles)

    def read_through(self, indices: Iterable[int], share: Share = one_by_one) -> None:
        """Read micrographs once, for what is wrong with one had better be known before hours of training.

        Args:
            share: by which processes.

        Raises:
            InputError: as `read` does.
        """

        def read(index: int) -> None:
            self.read(index)

        share(indices, read, f"reading {self.folder}")

    def pixel_size_nm(self, index: int) -> float | None:
        """The pixel size of a micrograph, nm per px, or None where neither its file nor a sidecar states it."""
        return read_micrograph(self.images[index]).pixel_size_nm

    def common_pixel_size_nm(self) -> float | None:
        """The median pixel size, nm per px, if all micrographs state about the same one; else None.

        Reads every micrograph, for a model of one magnification is brought to this size wherever it is used.
        """
        sizes = []
        for size in map(self.pixel_size_nm, range(len(self))):
            if size is None or max([size, *sizes]) > SAME * min([size, *sizes]):
                return None
            sizes.append(size)
        return float(np.median(sizes))

    @cached_property
    def sha256s(self) -> list[str]:
        """SHA-256 of every micrograph's file."""
        return [file_sha256(image) for image in self.images]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted SHA-256s of the micrographs: as `Store.fingerprint`."""
        return hashlib.sha256("".join(sorted(self.sha256s)).encode()).hexdigest()

    def sides(
        self,
        fraction: float = 0.2,
        seed: int = 0,
        split_file: str | Path | None = None,
        test_fraction: float = 0.0,
    ) -> Sides:
        """Positions of the training, the choosing and the held-out micrographs.

        By `split_file` when given, as `sempre.data.labels.sides.read_split_file` reads it; names are stems or file
        names, and what is not listed is left out. Else by the folders train/, validation/ and test/ where the set has
        them. Else by the rule of `sempre.data.stores.split`, which a store of the same files shares: two sides, and
        three with a `test_fraction`, of which validation is then chosen on and the test held out.

        Raises:
            InputError: for a split file that cannot be read, names a micrograph twice or one that is not in the set;
                for a `test_fraction` of a set that brings its sides, and fractions that leave nothing to train on.
        """
        if test_fraction and (split_file or self._side_of):
            given = split_file or f"{self.folder}'s own folders"
            raise InputError(f"{given} already tell the sides: leave test_fraction={test_fraction:g} away")
        if not 0 <= test_fraction < 1 or (test_fraction and fraction + test_fraction >= 1):
            raise InputError(
                f"validation_fraction={fraction:g} and test_fraction={test_fraction:g} leave nothing to train on: "
                "together they must be below 1"
            )
        if split_file is None and self._side_of:
            sides = [self._side_of[image] for image in self.images]
            return make_sides({side: [i for i, own in enumerate(sides) if own == side] for side in set(sides)})
        if split_file is None:
            validation, test = split_in_three(self.sha256s, fraction, test_fraction, seed)
            sides = {"train": ~validation & ~test, "validation": validation, "test": test}
            if test_fraction and not sides["train"].any():
                raise InputError(f"{self.folder} has too few micrographs for three sides: leave test_fraction away")
            return make_sides({side: np.flatnonzero(members) for side, members in sides.items()})
        position = {name: index for index, name in enumerate(self.names)}
        position |= {image.name: index for index, image in enumerate(self.images)}
        sides, seen = read_split_file(split_file), set()
        for name in (name for names in sides.values() for name in names):
            if name not in position:
                raise InputError(f"{split_file} names {name}, which is not in {self.folder}")
            if position[name] in seen:
                raise InputError(f"{split_file} names {name} twice: a micrograph is on one side of the split")
            seen.add(position[name])
        return make_sides({side: [position[name] for name in names] for side, names in sides.items()})

    def split(
        self,
        fraction: float = 0.2,
        seed: int = 0,
        split_file: str | Path | None = None,
        test_fraction: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the training and of the held-out micrographs, as `sides`, for what has nothing to choose."""
        sides = self.sides(fraction, seed, split_file, test_fraction)
        return sides.training, sides.held_out

    def _find_image(self, file_name: str) -> Path:
        leads_out = Path(file_name).is_absolute() or ".." in Path(file_name).parts or "\0" in file_name
        for candidate in (self.folder / "images" / file_name, self.folder / file_name):
            if not leads_out and candidate.is_file():
                return candidate
        raise InputError(f"{self._source} lists {file_name}, which is neither in {self.folder}/images nor beside it")


def _first_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the folders of these names in `folder` that is there."""
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _pairs(folder: Path, labels: Path) -> dict[Path, Path]:
    """The label image of each micrograph in `folder/images` or `folder/samples`."""
    images = _first_folder(folder, IMAGE_FOLDERS) or folder / IMAGE_FOLDERS[0]
    return {image: _find_labels(image.relative_to(images), labels) for image in find_micrographs(images)}


def _find_labels(image: Path, labels: Path) -> Path:
    """The label image of the micrograph that lies at `image` below its folder."""
    for folder in (labels / image.parent, labels):
        for suffix in LABEL_SUFFIXES:
            if (folder / f"{image.stem}{suffix}").is_file():
                return folder / f"{image.stem}{suffix}"
    raise InputError(
        f"{labels} has no labels for {image.stem}: add {image.stem}.png or {image.stem}.tif, or move the image away"
    )


def _check_size(image: Path, size: tuple[int, int], labels: Path, labels_size: tuple[int, int]) -> None:
    if tuple(size) != tuple(labels_size):
        raise InputError(
            f"{image} is {size[0]}x{size[1]} px but its labels in {labels} are {labels_size[0]}x{labels_size[1]} px: "
            "labels must be drawn on the same pixels"
        )


def _contiguous(layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label layers with the ids that occur renamed to 1..N, and the pixels of each id."""
    if layers.max() > layers.size:  # too sparse to count by id
        ids, renamed = np.unique(layers, return_inverse=True)
        layers = renamed.reshape(layers.shape) + (ids[0] > 0)
    counts = np.bincount(layers.ravel())
    occurs = counts > 0
    occurs[0] = False
    instances = int(occurs.sum())
    renamed = np.zeros(len(counts), dtype=np.uint16 if instances < 1 << 16 else np.int32)
    renamed[occurs] = np.arange(1, instances + 1)
    return renamed[layers], np.concatenate([counts[:1], counts[occurs]])
