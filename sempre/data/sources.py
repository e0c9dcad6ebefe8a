"""Micrographs to embed, from a store or from a folder, and the patches of a store."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sempre.data.groups import LabelRule, as_codes, label_rule
from sempre.data.shards import open_store
from sempre.data.store import Store
from sempre.errors import InputError
from sempre.files import file_sha256
from sempre.images import find_micrographs, percentile_normalise_to_uint8, read_micrograph

STORE_SUFFIXES = (".h5", ".hdf5")

if TYPE_CHECKING:
    lazy_property = property  # pyright takes no cached_property where a protocol asks for a property
else:
    lazy_property = cached_property


@dataclass(frozen=True)
class Place:
    """Where an image of a source lies in the file of its micrograph.

    `x`, `y` are its corner, px of the micrograph as the source reads it, which is at `scale` times the file's size;
    `pixel_size_nm` is that of the file, None when unknown.
    """

    file: str
    x: int = 0
    y: int = 0
    scale: float = 1.0
    pixel_size_nm: float | None = None

    def in_file(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes `[..., 4]` (x0, y0, x1, y1 in px of the image) in px of the file."""
        return (boxes + np.array([self.x, self.y, self.x, self.y])) / self.scale


class Source(Protocol):
    """Micrographs to embed, or parts of them, by their position: what is asked of `FolderSource` and all like it."""

    @property
    def path(self) -> Path: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def sha256s(self) -> Sequence[str]: ...

    @property
    def preparation(self) -> dict[str, Any]: ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[np.ndarray, float | None]: ...


class FolderSource:
    """The micrographs of a folder, or those of `files` alone, in the order of their paths; with `colour` as RGB.

    `names` are paths relative to the folder; `labels` what `label_of` gives of these, by default the subfolders that
    they lie in, -1 for none, counted into `label_names`. `preparation` says what was done to the grey values that
    `read` gives. `plain`: as `percentile_normalise` takes it.

    Raises:
        InputError: for a folder that is missing or holds no micrographs.
    """

    def __init__(
        self,
        folder: str | Path,
        percentiles: tuple[float, float] = (1.0, 99.0),
        files: Sequence[Path] | None = None,
        label_of: LabelRule | None = None,
        colour: bool = False,
        plain: bool = False,
    ):
        self.path, self.colour = Path(folder), colour
        self.files = find_micrographs(folder) if files is None else list(files)
        self.names = [str(file.relative_to(self.path)) for file in self.files]
        self.preparation: dict[str, Any] = {"percentiles": tuple(map(float, percentiles))}
        if colour:
            self.preparation["colour"] = True
        if plain:
            self.preparation["plain_percentiles"] = True
        self.labels, self.label_names = as_codes([(label_of or _subfolder)(name) for name in self.names])
        self._pixel_sizes_nm: dict[int, float | None] = {}

    def __len__(self) -> int:
        return len(self.files)

    @lazy_property
    def sha256s(self) -> list[str]:
        """SHA-256 of every file."""
        return [file_sha256(file) for file in self.files]

    def read(self, index: int) -> tuple[np.ndarray, float | None]:
        """A micrograph, percentile-normalised uint8 `[H, W]`, and its pixel size in nm, None when unknown.

        Of colours, uint8 `[H, W, 3]`, the percentiles are those of all three channels together, which keeps the hues.
        """
        micrograph = read_micrograph(self.files[index], colour=self.colour)
        self._pixel_sizes_nm[index] = micrograph.square_pixel_size_nm
        plain = "plain_percentiles" in self.preparation
        grey = percentile_normalise_to_uint8(micrograph.pixels, *self.preparation["percentiles"], plain=plain)
        return grey, micrograph.square_pixel_size_nm

    def micrograph_name(self, index: int) -> str:
        """The path of the micrograph that an image is, or was cut from, relative to the folder."""
        return self.names[index]

    def place(self, index: int) -> Place:
        """Where a micrograph lies: it is the whole of its file, which is read if its pixel size is not known yet."""
        if index not in self._pixel_sizes_nm:
            self._pixel_sizes_nm[index] = read_micrograph(self.files[index]).square_pixel_size_nm
        return Place(self.micrograph_name(index), pixel_size_nm=self._pixel_sizes_nm[index])


class StoreSource:
    """The micrographs of a store, in the order of its index; as `FolderSource`. Labels are by default the store's."""

    def __init__(self, store: Store, label_of: LabelRule | None = None):
        self.store, self.path, self.preparation = store, store.path, store.preparation
        if label_of is None:
            self.labels, self.label_names = store.entries.label, store.labels
        else:
            self.labels, self.label_names = as_codes([label_of(name) for name in self.names])

    def __len__(self) -> int:
        return len(self.store)

    @lazy_property
    def names(self) -> list[str]:
        return [self.store.file_of(index) for index in range(len(self.store))]

    @lazy_property
    def sha256s(self) -> list[str]:
        return [sha256.decode() for sha256 in self.store.entries.sha256]

    def read(self, index: int) -> tuple[np.ndarray, float | None]:
        return self.store.read(index), self._pixel_size_nm(index)

    def micrograph_name(self, index: int) -> str:
        return self.names[index]

    def place(self, index: int) -> Place:
        scale, pixel_size_nm = self.preparation["scale"], self._pixel_size_nm(index)
        return Place(self.micrograph_name(index), 0, 0, scale, pixel_size_nm and pixel_size_nm * scale)

    def _pixel_size_nm(self, index: int) -> float | None:
        pixel_size_nm = float(self.store.entries.pixel_size_nm[index])
        return pixel_size_nm if pixel_size_nm > 0 else None


def open_source(
    path: str | Path,
    percentiles: tuple[float, float] = (1.0, 99.0),
    labels_from: str = "auto",
    labels_csv: str = "",
    colour: bool = False,
    plain: bool = False,
) -> FolderSource | StoreSource:
    """The micrographs at `path`: a store, shards of one, or a folder of files (its `images/` where it has labels too).

    `percentiles` hold for files, and so does `plain`, as `percentile_normalise` takes it; a store has its own. Labels
    come from what `sempre.data.groups` knows; with `auto` from the store, or from the folder's sub-folders.

    Raises:
        InputError: when there are none, for the colours of a store, which keeps luminance, and as `label_rule`.
    """
    label_of = None if labels_from == "auto" else label_rule(labels_from, labels_csv)
    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*.h5")):
        folder = folder / "images" if (folder / "images").is_dir() else folder
        return FolderSource(folder, percentiles, label_of=label_of, colour=colour, plain=plain)
    if colour:
        raise InputError(f"{path} is read in grey: for colours give a folder of micrographs")
    if folder.is_file() and folder.suffix.lower() not in STORE_SUFFIXES:
        raise InputError(f"{path} is neither a store (.h5) nor a folder of micrographs")
    return StoreSource(open_store(path), label_of)


def _subfolder(name: str) -> str | None:
    parent = str(Path(name).parent)
    return None if parent == "." else parent


class PatchSource(StoreSource):
    """The patches of a source's store, as images; each has the label of its micrograph.

    `micrograph_of` `[P]` are index rows of the micrographs that they were cut from.

    Raises:
        InputError: when the store has none.
    """

    def __init__(self, source: StoreSource):
        self.store, self.path, self._micrographs = source.store, source.path, source.names
        self.side = source.store.patch_size
        self.preparation = source.preparation | {"patch_size": self.side}
        entries = source.store.patch_entries
        if not len(entries):
            raise InputError(
                f"{source.path} holds no patches: prepare it with patches=16 and a patch_size that its micrographs hold"
            )
        self.micrograph_of, self._corners = entries.image, entries.corner
        self.labels, self.label_names = source.labels[entries.image], source.label_names

    def __len__(self) -> int:
        return len(self.micrograph_of)

    @lazy_property
    def names(self) -> list[str]:
        """The micrograph's path and the patch's corner in the store."""
        places = zip(self.micrograph_of, self._corners, strict=True)
        return [f"{self._micrographs[micrograph]} at x={x} y={y}" for micrograph, (y, x) in places]

    @lazy_property
    def sha256s(self) -> list[str]:
        """SHA-256 of each patch's place in a micrograph of this SHA-256."""
        sha256s = self.store.entries.sha256[self.micrograph_of].tolist()
        places = zip(sha256s, self._corners, strict=True)
        keys = (f"{sha256.decode()} {x} {y} {self.side}" for sha256, (y, x) in places)
        return [hashlib.sha256(key.encode()).hexdigest() for key in keys]

    def read(self, index: int) -> tuple[np.ndarray, float | None]:
        """A patch, uint8 `[side, side]`, and its pixel size in nm, None when unknown."""
        return self.store.read_patch(index), self._pixel_size_nm(self.micrograph_of[index])

    def micrograph_name(self, index: int) -> str:
        return self._micrographs[self.micrograph_of[index]]

    def read_micrograph(self, index: int) -> np.ndarray:
        """The micrograph that a patch was cut from, uint8 `[H, W]`."""
        return self.store.read(self.micrograph_of[index])

    def place(self, index: int) -> Place:
        y, x = map(int, self._corners[index])
        scale, pixel_size_nm = self.preparation["scale"], self._pixel_size_nm(self.micrograph_of[index])
        return Place(self.micrograph_name(index), x, y, scale, pixel_size_nm and pixel_size_nm * scale)
