"""Crops straight from a store's memory-mapped chunks, and the table that says where in the file these lie.

HDF5 keeps an uncompressed chunk as its plain bytes. For a 640x640 px crop, looking up 25 chunks in its B-tree and
copying them row by row through its selections takes HDF5 three times as long as copying them out of a memory map.

    chunks/<H>x<W>     int64 [N, rows, columns]   offset in bytes of every chunk of images/<H>x<W>
"""

import mmap
from pathlib import Path

import h5py
import numpy as np


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
