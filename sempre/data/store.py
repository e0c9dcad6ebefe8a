"""The store: micrographs of any size in one HDF5 file, of which a crop reads only the chunks it touches.

HDF5 keeps an uncompressed chunk as its plain bytes. For a 640x640 px crop, looking up 25 chunks in its B-tree and
copying them row by row through its selections takes HDF5 three times as long as copying them out of a memory map.

    chunks/<H>x<W>     int64 [N, rows, columns]   offset in bytes of every chunk of images/<H>x<W>

images/<H>x<W>     uint8 [N, H, W]   the micrographs of one size, percentile-normalised, chunks of 160 x 160 px
    index/<column>     [M]               one row a micrograph: row (in its stack), height, width, path, sha256, label, …
    labels             [L]               names of the labels; index/label counts into it, -1 = none
    chunks/<H>x<W>     int64 [N, rows, columns]   where the chunks of images/<H>x<W> lie (`sempre.data.store`)
    patches/pixels     uint8 [P, S, S]   a fixed number of random patches of every micrograph
    patches/image, patches/corner        [P] and [P, 2]: the patch's micrograph (index row) and its corner (y, x)

Written once by data/prepare.py, read by many processes. `sempre.data.store_writer` writes it.
"""

import hashlib
import mmap
import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from sempre.data.journal import journal_path
from sempre.data.splits import split
from sempre.errors import InputError, one_input_error
from sempre.images.claims import check_no_way_out, check_packing, plane_bytes
from sempre.images.hdf5_guard import look_through
from sempre.locks import open_hdf5_file


def chunk_offsets(stack: h5py.Dataset) -> np.ndarray:
    """Where the chunks of a stack uint8 `[N, H, W]` lie in its file, int64 `[N, rows, columns]`."""
    offsets = np.empty([-(-side // chunk) for side, chunk in zip(stack.shape, stack.chunks, strict=True)], np.int64)
    _, tall, wide = stack.chunks

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        row, y, x = chunk.chunk_offset
        offsets[row, y // tall, x // wide] = chunk.byte_offset

    stack.id.chunk_iter(note)
    return offsets


def map_file(path: str | Path) -> mmap.mmap:
    """A file mapped into memory for reading."""
    with Path(path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mapped, "madvise"):  # not on Windows
        mapped.madvise(mmap.MADV_RANDOM)  # no reading ahead: `ChunkReader` says what it needs
    return mapped


class ChunkReader:
    """Reads crops of the images of one stack, without HDF5 but for the table's row.

    Args:
        mapped: the file, `map_file(path)`.
        offsets: the stack's table `[N, rows, columns]`, the dataset or an array.
        chunk: height and width of a chunk in px.
    """

    def __init__(self, mapped: mmap.mmap, offsets: h5py.Dataset | np.ndarray, chunk: tuple[int, int]):
        self.mapped, self.offsets, self.chunk = mapped, offsets, chunk
        self.bytes = np.frombuffer(mapped, dtype=np.uint8)

    def agrees_with(self, stack: h5py.Dataset) -> bool:
        """Whether the table is of the stack as it is: not outgrown, nor left behind by a program that repacks files."""
        if stack.compression is not None or len(self.offsets) != len(stack):
            return False
        size = self.chunk[0] * self.chunk[1]
        for row in {0, len(stack) - 1}:
            start = int(self.offsets[row][0, 0])
            if self.bytes[start : start + size].tobytes() != bytes(stack.id.read_direct_chunk((row, 0, 0))[1]):
                return False
        return True

    def crop(self, row: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        """The part of image `row` with corner (y, x), which must lie inside it: uint8 `[height, width]`."""
        tall, wide = self.chunk
        top, left = y // tall, x // wide
        table = self.offsets[row][top : -(-(y + height) // tall), left : -(-(x + width) // wide)].tolist()
        self._fetch(table)
        part = np.empty((height, width), dtype=np.uint8)
        for chunk_y, offsets in enumerate(table, top):
            first, last = max(chunk_y * tall, y), min((chunk_y + 1) * tall, y + height)  # rows of the image
            for chunk_x, offset in enumerate(offsets, left):
                start, end = max(chunk_x * wide, x), min((chunk_x + 1) * wide, x + width)  # its columns
                chunk = self.bytes[offset : offset + tall * wide].reshape(tall, wide)
                part[first - y : last - y, start - x : end - x] = chunk[
                    first - chunk_y * tall : last - chunk_y * tall, start - chunk_x * wide : end - chunk_x * wide
                ]
        return part

    def _fetch(self, table: list[list[int]]) -> None:
        """Ask the system for all of a crop's chunks, so that a disk serves them at once and not fault by fault."""
        if not hasattr(self.mapped, "madvise"):
            return
        size = self.chunk[0] * self.chunk[1]
        for offsets in table:
            length = offsets[-1] - offsets[0] + size
            if length == len(offsets) * size:  # side by side
                offsets = offsets[:1]
            else:
                length = size
            for offset in offsets:
                before = offset % mmap.PAGESIZE
                self.mapped.madvise(mmap.MADV_WILLNEED, offset - before, length + before)


FORMAT = 1
PART = 1 << 16  # rows hashed at a time


@dataclass(frozen=True)
class PatchEntries:
    """Where the store's patches lie: `image` `[P]`, index rows of their micrographs, and `corner` `[P, 2]` (y, x)."""

    image: np.ndarray
    corner: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Entries:
    """The store's index as columns of `[M]`, one row a micrograph, in the order of preparing.

    `row` in its stack, `height` and `width` in px, `label` (a position in `Store.labels`, -1 = none),
    `pixel_size_nm` (nan = unknown), `sha256` of the file (64 hexadecimal characters, bytes).
    """

    row: np.ndarray
    height: np.ndarray
    width: np.ndarray
    label: np.ndarray
    pixel_size_nm: np.ndarray
    sha256: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


class Store:
    """A store opened for reading; cheap to make, to pickle and to share with forked or spawned workers.

    The file is opened at the first read of each process. The index is read as whole columns (100 MB for a million
    micrographs), paths only when asked for.

    Args:
        path: the HDF5 file.
        partial: accept a store whose preparation was interrupted between two batches.

    Raises:
        InputError: when there is no such file, it is no store of this format, or its preparation has not finished;
            from here and all that reads it, when it is damaged.
    """

    def __init__(self, path: str | Path, partial: bool = False):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path} does not exist: make it with data/prepare.py images=FOLDER store={path}")
        if journal_path(path).exists():
            raise InputError(f"{path} is being written, or that was interrupted: run data/prepare.py to finish it")
        self._file = None
        self._process = None
        try:
            look_through(self.path, own=True)
            self._open()
        except OSError as error:
            raise InputError(f"{path} cannot be opened as an HDF5 file: {error}") from error
        with self._undamaged():
            self._read_attributes(partial)
            self._length = len(self._open()["index/row"])

    def _undamaged(self) -> AbstractContextManager[None]:
        return one_input_error(lambda reason: f"{self.path} is damaged ({reason}): copy it again, or make it anew")

    def _read_attributes(self, partial: bool) -> None:
        path, file = self.path, self._open()
        check_no_way_out(file)
        attributes = dict(file.attrs)
        if attributes.get("format") != FORMAT:
            raise InputError(f"{path} is not a store of format {FORMAT}: make it again with data/prepare.py")
        if not (attributes["complete"] or partial):
            raise InputError(f"{path} holds only a part of its folder: run data/prepare.py again to finish it")
        self.percentiles = tuple(float(percentile) for percentile in attributes["percentiles"])
        self.patch_size = int(attributes["patch_size"])
        self.code_version = str(attributes["code_version"])
        # What must agree among the shards of one store, and which shard this is: "2/8", empty for none.
        self.preparation = {
            "percentiles": self.percentiles,
            "scale": float(attributes.get("scale", 1.0)),
            "crop_information_bar": bool(attributes.get("crop_information_bar", True)),
        }
        if attributes.get("plain_percentiles", False):
            self.preparation["plain_percentiles"] = True
        self.shard = str(attributes.get("shard", ""))
        if not re.fullmatch(r"(\d{1,6}/\d{1,6})?", self.shard):
            raise ValueError(f"it says that it is the shard {self.shard!r}")

    def __len__(self) -> int:
        return self._length

    @cached_property
    def entries(self) -> Entries:
        """The index."""
        with self._undamaged():
            columns = {column.name: self._open()[f"index/{column.name}"] for column in fields(Entries)}
            for name, column in columns.items():
                check_packing(self.path, column.nbytes)
                if column.shape != (self._length,):
                    raise ValueError(f"index/{name} has the shape {column.shape}, not {(self._length,)}")
            entries = Entries(**{name: column[:] for name, column in columns.items()})
            labels = entries.label if len(entries) else np.zeros(1, int)
            ascii_digests = entries.sha256.dtype == "S64" and entries.sha256.view(np.uint8).max(initial=0) < 128
            if not ascii_digests or labels.min() < -1 or labels.max() >= len(self.labels):
                raise ValueError("index/sha256 or index/label holds what it cannot")
            return entries

    @cached_property
    def labels(self) -> list[str]:
        """Names of the labels that `entries.label` counts into."""
        with self._undamaged():
            return [name.decode() for name in self._open()["labels"][:]]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted SHA-256s of the files: which data a network was trained on, whatever their order."""
        digest = hashlib.sha256()
        order = np.argsort(self.entries.sha256)
        for start in range(0, len(order), PART):  # in parts, for a sorted copy of millions would fill the memory
            digest.update(self.entries.sha256[order[start : start + PART]].tobytes())
        return digest.hexdigest()

    def split(self, fraction: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Index rows of the training and of the validation split, by the rule of `sempre.data.splits`."""
        validation = split(map(bytes.decode, self.entries.sha256), fraction, seed)
        return np.flatnonzero(~validation), np.flatnonzero(validation)

    def file_of(self, index: int) -> str:
        """The micrograph's path, relative to the folder that was prepared."""
        with self._undamaged():
            return self._open()["index/path"][index].decode()

    def read(self, index: int) -> np.ndarray:
        """A whole micrograph, uint8 `[H, W]`."""
        row = self.entries.row[index]
        with self._undamaged():
            return self._stack(index)[row]

    def crop(self, index: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        """The part of a micrograph with corner (y, x), uint8 `[height, width]`; reads only the chunks it touches.

        Raises:
            ValueError: when it reaches outside the micrograph.
        """
        inside = y + height <= self.entries.height[index] and x + width <= self.entries.width[index]
        if min(y, x, height, width) < 0 or not inside:
            raise ValueError(f"a {height}x{width} px crop at ({y}, {x}) reaches outside {self.file_of(index)}")
        with self._undamaged():
            stack, row = self._stack(index), int(self.entries.row[index])
            reader = self._readers[stack.shape[1:]]
            if reader is not None:
                return reader.crop(row, y, x, height, width)
            return stack[row, y : y + height, x : x + width]

    @cached_property
    def patch_entries(self) -> PatchEntries:
        """Where the patches lie."""
        with self._undamaged():
            image, corner = (self._open()[f"patches/{name}"] for name in ("image", "corner"))
            check_packing(self.path, image.nbytes + corner.nbytes)
            if image.ndim != 1 or corner.shape != (len(image), 2) or {image.dtype.kind, corner.dtype.kind} != {"i"}:
                raise ValueError(f"patches/image and patches/corner have the shapes {image.shape} and {corner.shape}")
            entries = PatchEntries(image[:], corner[:])
            if len(entries) and not 0 <= entries.image.min() <= entries.image.max() < len(self):
                raise ValueError("patches/image names micrographs that are not there")
            return entries

    def read_patch(self, position: int) -> np.ndarray:
        """A patch, uint8 `[patch_size, patch_size]`; `position` counts into `patch_entries`."""
        with self._undamaged():
            pixels = self._open()["patches/pixels"]
            if pixels.shape[1:] != (self.patch_size, self.patch_size) or pixels.dtype != np.uint8:
                raise ValueError(f"patches/pixels has the shape {pixels.shape} of {pixels.dtype}")
            check_packing(self.path, plane_bytes(pixels))
            return pixels[position]

    def close(self) -> None:
        """Close this process's handle; the next read opens another."""
        if self._file is not None:
            self._file.close()
        self._file, self._map = None, None

    def _stack(self, index: int) -> h5py.Dataset:
        size = int(self.entries.height[index]), int(self.entries.width[index])
        file = self._open()
        if size not in self._stacks:
            stack = file[f"images/{size[0]}x{size[1]}"]
            if stack.shape[1:] != size or stack.dtype != np.uint8:
                raise ValueError(f"{stack.name} has the shape {stack.shape} of {stack.dtype}")
            check_packing(self.path, plane_bytes(stack))
            self._stacks[size] = stack
            self._readers[size] = self._reader(self._stacks[size])
        return self._stacks[size]

    def _reader(self, stack: h5py.Dataset) -> ChunkReader | None:
        """What reads crops of the stack faster than HDF5; None for a store without a table of its chunks."""
        file, table = self._open(), stack.name.replace("images", "chunks")
        if table not in file:
            return None
        if self._map is None:
            self._map = map_file(self.path)
        reader = ChunkReader(self._map, file[table], stack.chunks[1:])
        return reader if reader.agrees_with(stack) else None

    def _open(self) -> h5py.File:
        # A handle from before a fork shares its file position with the parent's: each process takes its own.
        if self._process != os.getpid():
            self.close()
            self._process = os.getpid()
        if self._file is None:
            self._file = open_hdf5_file(self.path)
            self._stacks, self._readers, self._map = {}, {}, None
        return self._file

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_map": None, "_stacks": {}, "_readers": {}}
