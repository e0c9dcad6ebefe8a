"""Labelled sets: micrographs with instance label images, or with outlines as labelling tools export them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from sempre.data.label_files import OUTLINE_SUFFIXES, entries_of, labels_in
from sempre.data.splits import Splits, by_sample, make_splits, read_split_file, split_in_three
from sempre.errors import InputError, warn
from sempre.files import file_sha256, files_below
from sempre.images import (
    percentile_normalise,
    percentile_normalise_to_uint8,
    read_labels,
    read_micrograph,
)


class Share(Protocol):
    """How the micrographs that are to be worked on are shared: by this process alone (`one_by_one`), or by all of a run
    (`sempre.training.scoring.SharedWork`).

    `share(positions, work, label)` gives `work(position)` of each position, in the order of the positions, in every
    process. What `work` gives is made of what JSON knows. `label` says what is being done.
    """

    def __call__(self, positions: Iterable[int], work: Callable[[int], Any], label: str) -> list[Any]: ...


def one_by_one(positions: Iterable[int], work: Callable[[int], Any], label: str) -> list[Any]:
    """`Share` for one process."""
    return [work(position) for position in tqdm(list(positions), desc=label, unit="image")]


SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
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
    """Micrographs in `folder/images` with labels of the same stem in `folder/labels` (`segmaps`, `masks` or
    `instances`), or beside them; or with the annotations of all in one file, `coco=`, `folder/annotations.json`, or the
    only export of a labelling tool there, whose micrographs lie in `folder/images` or `folder`.

    Labels of a micrograph are a label image, LabelMe's `.json` or ImageJ's ROIs (`.zip`, `.roi`), whose names may say
    so: `a_masks.tif`, or `a_instances.tif` as `sempre segment` calls it. Exports are those that `read_annotations`
    reads. Micrographs may lie in `samples/` in place of `images/`, in the folder itself, and in sub-folders, with
    labels in the same sub-folders or in none. A folder may be divided: `train/`, `validation/` (or `val/`, `valid/`)
    and `test/` with such folders each, and what else lies there is left alone.

    Nothing but names is read before `read`. `names` are the stems, sorted; `images` the micrographs' paths.

    Args:
        coco: the file of annotations.
        percentiles: of the grey values that become black and white.
        components: as `sempre.images.read_labels` takes it: False refuses masks, in which particles have no number of
            their own, True makes a particle of each piece, None takes them as they are.
        plain: as `sempre.images.percentile_normalise` takes it.

    Raises:
        InputError: for a missing or empty folder, a micrograph without labels, two micrographs of one stem,
            annotations that list a missing one or outline no particle.
    """

    def __init__(
        self,
        folder: str | Path,
        coco: str | Path | None = None,
        percentiles: tuple[float, float] = (1.0, 99.0),
        components: bool | None = False,
        plain: bool = False,
    ):
        self.folder, self.percentiles, self.components, self.plain = Path(folder), percentiles, components, plain
        if not self.folder.is_dir():
            raise InputError(f"{folder} does not exist: give the folder that holds images/ and labels/")
        if coco and not Path(coco).is_file():
            raise InputError(f"{coco} does not exist: give a COCO instance file")
        # Of each micrograph: its file of labels, or its entry in the file of annotations; and the split it lies in.
        self._labels: Mapping[Path, Path | dict]
        self._split_of: dict[Path, str] = {}
        self._source = Path(coco) if coco else self.folder
        splits = {part: self.folder / part for part in SPLIT_FOLDERS if (self.folder / part).is_dir()}
        if coco:
            self._labels = entries_of(self.folder, self._source)
        elif (found := labels_in(self.folder, beside=not splits)) is not None:
            self._source, self._labels = found
        else:
            in_parts = {part: labels_in(at, beside=True) for part, at in splits.items()}
            if not any(in_parts.values()):
                from sempre.data.boxes import refuse_boxes  # here, for few sets are refused

                refuse_boxes(files_below(self.folder))
                raise InputError(
                    f"{folder} has no labels: put label images into labels/ or segmaps/, beside the micrographs "
                    "(a_masks.tif), or an export of a labelling tool as annotations.json"
                )
            self._labels = {image: labels for found in in_parts.values() if found for image, labels in found[1].items()}
            self._split_of = {
                image: SPLIT_FOLDERS[part] for part, found in in_parts.items() if found for image in found[1]
            }
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
            layers = _read_layers(labels, pixels.shape, self.components)
            _check_size(image, pixels.shape, labels, layers.shape[1:])
        else:
            size = labels["height"] or pixels.shape[0], labels["width"] or pixels.shape[1]
            _check_size(image, pixels.shape, self._source, size)
            self._check_outlined()
            from sempre.data.coco import coco_layers  # here, for most sets have label images alone

            layers = coco_layers({**labels, "height": size[0], "width": size[1]}, self._source)
        layers, areas = _contiguous(layers)
        grey = percentile_normalise_to_uint8(pixels, *self.percentiles, self.plain)
        return LabelledMicrograph(grey, layers, areas, micrograph.pixel_size_nm)

    def normalised(self, index: int) -> np.ndarray:
        """A micrograph as `sempre segment` shows it to a network: float32 `[H, W]`, by the set's percentiles."""
        return percentile_normalise(read_micrograph(self.images[index]).pixels, *self.percentiles, self.plain)

    def _check_outlined(self) -> None:
        """Raise where annotations outline nothing in all micrographs: every score would be perfect or none."""
        entries = list(self._labels.values())
        if entries and all(isinstance(entry, dict) and not entry["segmentations"] for entry in entries):
            raise InputError(
                f"{self._source} outlines no particle in {len(entries)} micrographs: export polygons or masks of "
                "single particles"
            )

    def holds_particles(self, indices: Iterable[int]) -> bool:
        """Whether any of the micrographs shows a particle; they are read up to the first that does.

        Raises:
            InputError: as `read` does.
        """
        return any(len(self.read(int(index)).areas) > 1 for index in indices)

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

    def digests(self, splits: Splits) -> dict[str, str]:
        """By name what each micrograph of the splits is: its split, and the SHA-256s of its file and of its labels."""
        digests = {}
        for split, indices in asdict(splits).items():
            for index in map(int, indices):
                labels = self._labels[self.images[index]]
                if isinstance(labels, Path):
                    digest = file_sha256(labels)
                else:
                    digest = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()
                digests[self.names[index]] = f"{split}, pixels {self.sha256s[index]}, labels {digest}"
        return digests

    def check_particles(self, splits: Splits) -> None:
        """See to it that there is something to learn from and to find; micrographs are read up to the first particle.

        A held-out or choosing split that shows no particle is told, for its AJI+ counts false particles alone.

        Raises:
            InputError: where no micrograph of the training split shows a particle; as `read` does.
        """
        if not self.holds_particles(splits.training):
            raise InputError(
                f"none of the {len(splits.training)} micrographs of {self.folder} to train on shows a particle: label "
                "some, or divide the set otherwise"
            )
        for purpose, indices in (("choose on", splits.choosing), ("be scored", splits.held_out)):
            if len(indices) and not self.holds_particles(indices):
                warn(
                    f"none of the {len(indices)} micrographs of {self.folder} to {purpose} shows a particle: their AJI+"
                    " is 1 where nothing is found, else 0"
                )

    def splits(
        self,
        fraction: float = 0.2,
        seed: int = 0,
        split_file: str | Path | None = None,
        test_fraction: float = 0.0,
        sample: str = "",
    ) -> Splits:
        """Positions of the training, the choosing and the held-out micrographs.

        By `split_file` when given, as `sempre.data.splits.read_split_file` reads it; names are stems or file
        names, and what is not listed is left out. Else by the folders train/, validation/ and test/ where the set has
        them. Else by the rule of `sempre.data.splits`, which a store of the same files shares: two splits, and
        three with a `test_fraction`, of which validation is then chosen on and the test held out. With `sample`, a
        regular expression as `sempre.data.splits.sample_of` takes it, micrographs of one sample stay together.

        Raises:
            InputError: for a split file that cannot be read, names a micrograph twice or one that is not in the set;
                for a `test_fraction` of a set that brings its splits, and fractions that leave nothing to train on.
        """
        self._check_outlined()
        if test_fraction and (split_file or self._split_of):
            given = split_file or f"{self.folder}'s own folders"
            raise InputError(f"{given} already tell the splits: leave test_fraction={test_fraction:g} away")
        if not 0 <= test_fraction < 1 or (test_fraction and fraction + test_fraction >= 1):
            raise InputError(
                f"validation_fraction={fraction:g} and test_fraction={test_fraction:g} leave nothing to train on: "
                "together they must be below 1"
            )
        if split_file is None and self._split_of:
            splits = [self._split_of[image] for image in self.images]
            return make_splits({split: [i for i, own in enumerate(splits) if own == split] for split in set(splits)})
        if split_file is None:
            contents = self.sha256s
            if sample:  # the least checksum of a sample's micrographs decides for all of them
                of_sample = by_sample(self.names, sample).values()
                least = {position: min(contents[other] for other in same) for same in of_sample for position in same}
                contents = [least[position] for position in range(len(contents))]
            validation, test = split_in_three(contents, fraction, test_fraction, seed)
            splits = {"train": ~validation & ~test, "validation": validation, "test": test}
            if test_fraction and not splits["train"].any():
                raise InputError(f"{self.folder} has too few micrographs for three splits: leave test_fraction away")
            return make_splits({split: np.flatnonzero(members) for split, members in splits.items()})
        position = {name: index for index, name in enumerate(self.names)}
        position |= {image.name: index for index, image in enumerate(self.images)}
        splits, seen = read_split_file(split_file), set()
        for name in (name for names in splits.values() for name in names):
            if name not in position:
                raise InputError(f"{split_file} names {name}, which is not in {self.folder}")
            if position[name] in seen:
                raise InputError(f"{split_file} names {name} twice: a micrograph is in one split")
            seen.add(position[name])
        return make_splits({split: [position[name] for name in names] for split, names in splits.items()})

    def split(
        self,
        fraction: float = 0.2,
        seed: int = 0,
        split_file: str | Path | None = None,
        test_fraction: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the training and of the held-out micrographs, as `splits`, for what has nothing to choose."""
        splits = self.splits(fraction, seed, split_file, test_fraction)
        return splits.training, splits.held_out


def _read_layers(path: Path, shape: tuple[int, int], components: bool | None) -> np.ndarray:
    """The layers int32 `[L, H, W]` of one micrograph's file of labels."""
    if path.suffix.lower() not in OUTLINE_SUFFIXES:
        return read_labels(path, components)[None]
    from sempre.data.exports import read_label_file  # here, for most sets have label images alone

    return read_label_file(path, shape, components)


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
