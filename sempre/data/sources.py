"""Micrographs to embed, from a store or from a folder, one like the other."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from sempre.data.shards import open_store
from sempre.data.store import Store
from sempre.errors import InputError
from sempre.files import file_sha256
from sempre.images import find_micrographs, percentile_normalise_to_uint8, read_micrograph

STORE_SUFFIXES = (".h5", ".hdf5")


class FolderSource:
    """The micrographs of a folder, or those of `files` alone, in the order of their paths; with `colour` as RGB.

    `names` are paths relative to the folder; `labels` the subfolders that they lie in, -1 for none, counted into
    `label_names`. `preparation` says what was done to the grey values that `read` gives.

    Raises:
        InputError: for a folder that is missing or holds no micrographs.
    """

    def __init__(
        self,
        folder: str | Path,
        percentiles: tuple[float, float] = (1.0, 99.0),
        files: Sequence[Path] | None = None,
        colour: bool = False,
    ):
        self.path, self.colour = Path(folder), colour
        self.files = find_micrographs(folder) if files is None else list(files)
        self.names = [str(file.relative_to(self.path)) for file in self.files]
        self.preparation = {"percentiles": tuple(map(float, percentiles))} | ({"colour": True} if colour else {})
        parents = [str(Path(name).parent) for name in self.names]
        self.label_names = sorted(set(parents) - {"."})
        self.labels = np.array([-1 if parent == "." else self.label_names.index(parent) for parent in parents])

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def sha256s(self) -> list[str]:
        """SHA-256 of every file."""
        return [file_sha256(file) for file in self.files]

    def read(self, index: int) -> tuple[np.ndarray, float | None]:
        """A micrograph, percentile-normalised uint8 `[H, W]`, and its pixel size in nm, None when unknown.

        Of colours, uint8 `[H, W, 3]`, the percentiles are those of all three channels together, which keeps the hues.
        """
        micrograph = read_micrograph(self.files[index], colour=self.colour)
        grey = percentile_normalise_to_uint8(micrograph.pixels, *self.preparation["percentiles"])
        return grey, micrograph.pixel_size_nm


class StoreSource:
    """The micrographs of a store, in the order of its index; as `FolderSource`."""

    def __init__(self, store: Store):
        self.store, self.path, self.preparation = store, store.path, store.preparation
        self.labels, self.label_names = store.entries.label, store.labels

    def __len__(self) -> int:
        return len(self.store)

    @cached_property
    def names(self) -> list[str]:
        return [self.store.file_of(index) for index in range(len(self.store))]

    @cached_property
    def sha256s(self) -> list[str]:
        return [sha256.decode() for sha256 in self.store.entries.sha256]

    def read(self, index: int) -> tuple[np.ndarray, float | None]:
        pixel_size_nm = float(self.store.entries.pixel_size_nm[index])
        return self.store.read(index), pixel_size_nm if pixel_size_nm > 0 else None


def open_source(
    path: str | Path, percentiles: tuple[float, float] = (1.0, 99.0), colour: bool = False
) -> FolderSource | StoreSource:
    """The micrographs at `path`: a store, shards of one, or a folder of files (its `images/` where it has labels too).

    `percentiles` hold for files; a store has its own.

    Raises:
        InputError: when there are none, and for the colours of a store, which keeps luminance.
    """
    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*.h5")):
        folder = folder / "images" if (folder / "images").is_dir() else folder
        return FolderSource(folder, percentiles, colour=colour)
    if colour:
        raise InputError(f"{path} is read in grey: for colours give a folder of micrographs")
    if folder.is_file() and folder.suffix.lower() not in STORE_SUFFIXES:
        raise InputError(f"{path} is neither a store (.h5) nor a folder of micrographs")
    return StoreSource(open_store(path))
