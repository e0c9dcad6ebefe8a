"""A store of many files: shards that are prepared one by one, perhaps on different machines, and read as one store."""

import glob
import os
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path

import numpy as np

from sempre.data.stores.store import Entries, PatchEntries, Store
from sempre.errors import InputError


def open_store(path: str | Path) -> Store:
    """The store at `path`: an HDF5 file, a folder of `*.h5` shards, or a glob such as `"shards/day-*.h5"`.

    Environment variables in it are expanded.
    """
    shards = shard_paths(path)
    return Store(shards[0]) if names_one_file(path, shards) else ShardedStore(path, shards)


def shard_paths(path: str | Path) -> list[Path]:
    """The files of a store, sorted by path.

    Raises:
        InputError: when a folder or a glob holds none. (A single file may be missing: `Store` says what to do.)
    """
    path = os.path.expandvars(path)
    if Path(path).is_dir():
        found = sorted(Path(path).glob("*.h5"))
    elif not Path(path).exists() and glob.has_magic(path):
        found = sorted(Path(name) for name in glob.glob(path, recursive=True))  # noqa: PTH207 (of any folder)
    else:
        return [Path(path)]
    if not found:
        raise InputError(f"{path} holds no store: prepare *.h5 files there, or give the name of one")
    return found


def names_one_file(path: str | Path, shards: list[Path]) -> bool:
    """Whether `path` is itself the one file, not a folder or glob that happens to hold one."""
    return shards == [Path(os.path.expandvars(path))]


class ShardedStore(Store):
    """Shards read as one store: the index rows of the first shard, then those of the second, and so on.

    Shards are ordered by path, whatever their order in `shards`. The split, the fingerprint and the crop of an
    (epoch, index row) do not depend on how the micrographs are spread over shards; index rows do, and so does the order
    of an epoch's samples, which is drawn over index rows. Add a shard, rename one or spread them anew between runs,
    not within one. Labels are the union of the shards' names, in the order in which they are met. Patches are the first
    shard's, then the second's, and so on.

    Args:
        path: what the user calls them.
        shards: the files.

    Raises:
        InputError: when a shard cannot be read, was prepared with other settings than the first, or is not there
            although others say that they are, for example, "2/8" of the store.
    """

    def __init__(self, path: str | Path, shards: Sequence[Path]):
        self.path = Path(path)
        self.shards = [Store(shard) for shard in sorted(shards)]
        _check(self.path, self.shards)
        first = self.shards[0]
        self.percentiles, self.preparation, self.shard = first.percentiles, first.preparation, ""
        self.patch_size, self.code_version = first.patch_size, first.code_version
        self._ends = np.cumsum([len(shard) for shard in self.shards])
        self._length = int(self._ends[-1])

    @cached_property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(name for shard in self.shards for name in shard.labels))

    @cached_property
    def entries(self) -> Entries:
        """The index; `row` counts in the stack of the entry's own shard."""
        columns = {
            column.name: np.concatenate([getattr(shard.entries, column.name) for shard in self.shards])
            for column in fields(Entries)
        }
        # The shard's code for a label -> the union's; the last one stands for -1, no label.
        codes = [np.array([*map(self.labels.index, shard.labels), -1], np.int32) for shard in self.shards]
        columns["label"] = np.concatenate(
            [code[shard.entries.label] for code, shard in zip(codes, self.shards, strict=True)]
        )
        return Entries(**columns)

    def file_of(self, index: int) -> str:
        shard, index = self._locate(index)
        return shard.file_of(index)

    def read(self, index: int) -> np.ndarray:
        shard, index = self._locate(index)
        return shard.read(index)

    def crop(self, index: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        shard, index = self._locate(index)
        return shard.crop(index, y, x, height, width)

    @cached_property
    def patch_entries(self) -> PatchEntries:
        """Where the patches of all shards lie.

        Raises:
            InputError: when those of the shards differ in size.
        """
        for shard in self.shards:
            if shard.patch_size != self.patch_size:
                raise InputError(
                    f"{shard.path} was prepared with patch_size={shard.patch_size}, {self.shards[0].path} with "
                    f"{self.patch_size}: prepare all shards of a store alike"
                )
        entries = [shard.patch_entries for shard in self.shards]
        starts = self._ends - [len(shard) for shard in self.shards]
        images = [found.image + start for found, start in zip(entries, starts, strict=True)]
        return PatchEntries(np.concatenate(images), np.concatenate([found.corner for found in entries]))

    def read_patch(self, position: int) -> np.ndarray:
        shard = int(np.searchsorted(self._patch_starts, position, side="right")) - 1
        return self.shards[shard].read_patch(position - int(self._patch_starts[shard]))

    def close(self) -> None:
        for shard in self.shards:
            shard.close()

    def __getstate__(self) -> dict:
        return self.__dict__

    @cached_property
    def _patch_starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(shard.patch_entries) for shard in self.shards)])

    def _locate(self, index: int) -> tuple[Store, int]:
        """The shard of an index row, and the row within it."""
        if not 0 <= index < self._length:
            raise IndexError(f"{self.path} has rows 0 to {self._length - 1}, not {index}")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return self.shards[shard], int(index) - int(self._ends[shard]) + len(self.shards[shard])


def _check(path: Path, shards: list[Store]) -> None:
    """Whether these are shards of one store, prepared alike and, where they are numbered, each there once."""
    first = shards[0]
    for shard in shards[1:]:
        for name, value in first.preparation.items():
            if shard.preparation[name] != value:
                raise InputError(
                    f"{shard.path} was prepared with {name}={shard.preparation[name]}, {first.path} with {value}: "
                    "prepare all shards of a store alike"
                )
        if _count(shard) != _count(first):
            raise InputError(
                f"{shard.path} is shard {shard.shard or 'without a number'}, {first.path} is "
                f"{first.shard or 'without a number'}: name the shards of one store"
            )
    if not _count(first):
        return
    found: dict[str, Path] = {}
    for shard in shards:
        if shard.shard in found:
            raise InputError(f"{found[shard.shard]} and {shard.path} are both shard {shard.shard}: remove one of them")
        found[shard.shard] = shard.path
    for number in range(1, int(_count(first)) + 1):
        if (missing := f"{number}/{_count(first)}") not in found:
            raise InputError(f"{path} lacks shard {missing}: make it with data/prepare.py shard={missing}")


def _count(shard: Store) -> str:
    """Of how many shards it says that it is one; empty when it says nothing."""
    return shard.shard.partition("/")[2]
