"""Slices of volumes as micrographs: to embed like any others, or with their labels as a labelled set."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sempre.data.labelled import LabelledSet
from sempre.data.sources import STORE_SUFFIXES, FolderSource, Source, StoreSource, lazy_property, open_source
from sempre.errors import InputError
from sempre.images import MICROGRAPH_SUFFIXES, find_micrographs, percentile_normalise_to_uint8, write_labels
from sempre.images.label_names import LABEL_FOLDERS
from sempre.images.volume import Volume, evenly_spaced, open_volume
from sempre.images.write import write_micrograph
from sempre.ranges import CountOrZero, Index, IndexOrNone


@dataclass(kw_only=True)
class SliceOptions:
    slices: CountOrZero = 0  # evenly spaced slices taken from each volume; 0: data= holds micrographs
    channel: Index = 0  # channel of the volumes to read; -1: the last
    label_channel: IndexOrNone = None  # channel of the volumes with the labels; None: labels are in labels/
    skip: CountOrZero = 0  # leave out this many first and last slices of each volume


class VolumeSource:
    """Slices of one channel of volumes as micrographs; as `FolderSource`, but known by their pixels' SHA-256.

    A slice's name is its volume's stem and its number, counted from 0: `steel_0012`; so a volume is a sample
    (`sempre.data.splits`). `label_names` are the volumes' stems.

    Args:
        files: of the volumes.
        slices: how many of each, evenly spaced; 0 takes all.
        channel: counted from 0, or from the last, -1.
        skip: so many of the first slices of each are left out, and of the last.
        plain: as `sempre.images.percentile_normalise` takes it.

    Raises:
        InputError: for a volume that cannot be read, has fewer slices or lacks the channel, and for two of one stem.
    """

    def __init__(
        self,
        files: Sequence[Path],
        slices: int = 0,
        channel: int = 0,
        percentiles: tuple[float, float] = (1.0, 99.0),
        skip: int = 0,
        plain: bool = False,
    ):
        self.path, self.channel = Path(files[0]).parent, channel
        self.preparation: dict[str, Any] = {"percentiles": tuple(map(float, percentiles))}
        if plain:
            self.preparation["plain_percentiles"] = True
        volumes = [open_volume(file) for file in files]
        self.label_names = [_stem(volume.path) for volume in volumes]
        if len(set(self.label_names)) < len(volumes):
            raise InputError(f"two volumes in {self.path} share a stem: rename one of them")
        for volume in volumes:
            volume.check_channel(channel)
        self._slices: list[tuple[Volume, int]] = []
        labels = []
        for number, volume in enumerate(volumes):
            kept = volume.slices - 2 * skip
            if skip < 0 or kept < 1:
                raise InputError(f"skip={skip} leaves {kept} of the {volume.slices} slices of {volume.path}: take less")
            try:
                chosen = [skip + position for position in evenly_spaced(kept, slices or kept)]
            except InputError as error:
                raise InputError(f"{volume.path}: {error}") from None
            self._slices += [(volume, position) for position in chosen]
            labels += [number] * len(chosen)
        self.labels = np.array(labels)
        self.names = [f"{_stem(volume.path)}_{position:04d}" for volume, position in self._slices]

    def __len__(self) -> int:
        return len(self._slices)

    @lazy_property
    def sha256s(self) -> list[str]:
        """SHA-256 of every slice's shape and grey values."""
        return [self._sha256(index) for index in tqdm(range(len(self)), desc="reading slices", unit="slice")]

    def read(self, index: int) -> tuple[np.ndarray, float | None]:
        """A slice, percentile-normalised uint8 `[H, W]`, and its pixel size in nm, None when unknown."""
        volume, position = self._slices[index]
        pixels = volume.read(position, self.channel)
        plain = "plain_percentiles" in self.preparation
        grey = percentile_normalise_to_uint8(pixels, *self.preparation["percentiles"], plain=plain)
        return grey, volume.pixel_size_nm

    def slice_of(self, index: int) -> tuple[Volume, int]:
        """The volume that a micrograph is a slice of, and the slice's number."""
        return self._slices[index]

    def volumes(self) -> list[tuple[Volume, list[int]]]:
        """Each volume, and which micrographs are its slices, from the first slice to the last."""
        owners = {number: [] for number in range(len(self.label_names))}
        for index, number in enumerate(self.labels):
            owners[int(number)].append(index)
        return [(self._slices[indices[0]][0], indices) for indices in owners.values()]

    def _sha256(self, index: int) -> str:
        volume, position = self._slices[index]
        pixels = volume.read(position, self.channel)
        digest = hashlib.sha256(f"{pixels.dtype.str} {pixels.shape}".encode())
        digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()


def open_slices(
    path: str | Path,
    slices: int = 0,
    channel: int = 0,
    percentiles: tuple[float, float] = (1.0, 99.0),
    skip: int = 0,
    colour: bool = False,
    plain: bool = False,
) -> FolderSource | StoreSource | VolumeSource:
    """The micrographs at `path`: as `open_source`, and slices of volumes.

    A single file that is no store is a volume. With `slices` every file of a folder is one.

    Raises:
        InputError: as `open_source` and `VolumeSource` do, for slices of a store, a channel of plain micrographs, and
            the colours of volumes.
    """
    path = Path(path)
    if colour and (slices or path.is_file()):
        raise InputError(f"{path} is read in grey: for colours give a folder of micrographs")
    if path.is_file() and path.suffix.lower() not in STORE_SUFFIXES:
        return VolumeSource([path], slices, channel, percentiles, skip, plain)
    source = open_source(path, percentiles, colour=colour, plain=plain)
    if slices and isinstance(source, FolderSource):
        return VolumeSource(source.files, slices, channel, percentiles, skip, plain)
    if slices or channel or skip:
        raise InputError(
            f"slices={slices} channel={channel} skip={skip} are of volumes: give a volume, or a folder with slices=N"
        )
    return source


def output_stems(source: Source) -> list[str]:
    """Of each micrograph the name without suffix, folders joined: what files that are made of it are called.

    Raises:
        InputError: where two would be called the same.
    """
    names = [Path(name) for name in source.names]
    files = [name.with_suffix("") if name.suffix.lower() in MICROGRAPH_SUFFIXES else name for name in names]
    stems = ["_".join(file.parts) for file in files]
    stem, times = Counter(stems).most_common(1)[0]
    if times > 1:
        raise InputError(f"{times} micrographs of {source.path} would be called {stem}: rename them")
    return stems


def open_labelled(
    data: str | Path,
    folder: str | Path,
    options: SliceOptions,
    percentiles: tuple[float, float] = (1.0, 99.0),
    plain: bool = False,
) -> LabelledSet:
    """The labelled set `data`, or with `options.slices` slices of the volumes there, which are written to `folder`.

    Masks are taken as they are.

    Raises:
        InputError: as `LabelledSet` and `labelled_slices` do, and for what is said of volumes without `slices`.
    """
    if options.slices:
        chosen = (options.slices, options.channel, percentiles, options.label_channel, options.skip)
        return labelled_slices(data, folder, *chosen, plain)
    if options.channel or options.skip or options.label_channel is not None:
        given = f"channel={options.channel} label_channel={options.label_channel} skip={options.skip}"
        raise InputError(f"{given} are of volumes: say with slices=N how many slices of each to take")
    return LabelledSet(data, percentiles=percentiles, components=None, plain=plain)


def labelled_slices(
    folder: str | Path,
    out: str | Path,
    slices: int,
    channel: int = 0,
    percentiles: tuple[float, float] = (1.0, 99.0),
    label_channel: int | None = None,
    skip: int = 0,
    plain: bool = False,
) -> LabelledSet:
    """Evenly spaced slices of the volumes in `folder/images`, with their labels, as a labelled set in `out`.

    Label volumes lie in `folder/labels` or `folder/segmaps` under the same stems and have the same shape. With
    `label_channel` the labels are that channel of the volumes, and these may lie in `folder` itself; a mask, as an
    annotator's channel usually is, is one instance a slice.

    Raises:
        InputError: for a volume without labels or with labels of another shape, and where there is only one slice in
            all, for a comparison needs two.
    """
    folder, out = Path(folder), Path(out)
    images = folder if label_channel is not None and not (folder / "images").is_dir() else folder / "images"
    source = VolumeSource(find_micrographs(images), slices, channel, percentiles, skip, plain)
    if len(source) < 2:
        volume, _ = source.slice_of(0)
        raise InputError(
            f"{volume.path} has {volume.slices} slice{'s' * (volume.slices > 1)} and slices={slices} takes one: a "
            "comparison needs two, give a volume with more or take more"
        )
    shutil.rmtree(out, ignore_errors=True)  # slices of another choice would stay in the set
    for name in ("images", "labels"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(tqdm(source.names, desc="writing slices", unit="slice")):
        volume, position = source.slice_of(index)
        labels = volume if label_channel is not None else _label_volume(folder, volume)
        pixels, pixel_size_nm = source.read(index)
        write_labels(out / f"labels/{name}.tif", _ids(labels, position, label_channel or 0))
        write_micrograph(out / f"images/{name}.tif", pixels, pixel_size_nm)
    return LabelledSet(out, percentiles=percentiles, components=None, plain=plain)


def _ids(labels: Volume, position: int, channel: int) -> np.ndarray:
    """The ids `[H, W]` of one slice of a label volume; Imaris may keep all channels as floats."""
    stored = labels.read(position, channel)
    whole = stored.dtype.kind in "iu" or (stored == np.rint(stored)).all()
    if not whole or stored.min(initial=0) < 0 or stored.max(initial=0) > np.iinfo(np.int32).max:
        raise InputError(f"{labels.path} holds {stored.dtype} pixels: a label volume has integer ids, 0 background")
    return stored.astype(np.int32)


def _label_volume(folder: Path, volume: Volume) -> Volume:
    stem = _stem(volume.path)
    candidates = (file for name in LABEL_FOLDERS for file in sorted((folder / name).glob("*")))
    files = [file for file in candidates if _stem(file) == stem]
    if not files:
        raise InputError(f"{folder} has no labels for {stem}: put a label volume {stem}.tif into labels/")
    labels = open_volume(files[0])
    if (labels.slices, labels.shape) != (volume.slices, volume.shape):
        raise InputError(
            f"{volume.path} is {volume.slices}x{volume.shape[0]}x{volume.shape[1]} but its labels in {labels.path} are "
            f"{labels.slices}x{labels.shape[0]}x{labels.shape[1]}: labels must be drawn on the same pixels"
        )
    return labels


def _stem(file: Path) -> str:
    """The name without `.tif` or `.ome.tif`."""
    return file.stem.removesuffix(".ome")
