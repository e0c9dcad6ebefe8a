"""A store of many files, and its copy on a node's own disk."""

import glob
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.data.journal import journal_path
from sempre.data.store import Entries, PatchEntries, Store
from sempre.errors import InputError
from sempre.files import whole_or_absent
from sempre.locks import one_at_a_time


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


PART = 1 << 24  # bytes copied at a time
_Version = tuple[int, int]  # size in bytes and time of change in ns


def stage(store: str | Path, folder: str | Path) -> Path:
    """Copy the files of a store into `folder`; what to give `open_store` in its place.

    Every process of a node calls it, of one job or of several: one copies behind a lock, the others wait and find the
    copy. A copy lies under a name made of its sources' paths, sizes and times of change, so a source that changes is
    copied anew, beside the old copy that a running job may still be reading; nothing is ever replaced. A file that is
    only partly copied has another name and is begun again.

    Args:
        store: a file, folder or glob, as `open_store` takes it.
        folder: on the node's own disk, made when missing. "$TMPDIR" and the like are expanded, in `store` too.

    Raises:
        InputError: when a source is missing or being written, a variable is not set, or the disk is too full.
    """
    sources = shard_paths(store)
    one_file = names_one_file(store, sources)
    versions = {path: _version(path) for path in sources}
    identity = repr([(str(path.resolve()), *version) for path, version in versions.items()])
    place = _expanded(folder) / f"store-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    place.mkdir(parents=True, exist_ok=True)
    # Numbers keep the shards' order, and apart what has the same name in two folders.
    copies = {
        path: place / (path.name if one_file else f"{number:05}-{path.stem}.h5") for number, path in enumerate(sources)
    }
    with one_at_a_time(place / "lock"):
        absent = [path for path, (size, _) in versions.items() if not _holds(copies[path], size)]
        needed = sum(versions[path][0] for path in absent)
        _check_space(place, needed)
        with tqdm(total=needed, unit="B", unit_scale=True, desc="staging", disable=not absent) as progress:
            for path in absent:
                _copy(path, versions[path], copies[path], progress)
    return copies[sources[0]] if one_file else place


def _holds(copy: Path, size: int) -> bool:
    return copy.exists() and copy.stat().st_size == size


def _expanded(folder: str | Path) -> Path:
    expanded = os.path.expandvars(folder)
    if "$" in expanded:
        raise InputError(f"stage_to={folder} names a variable that is not set on this node: give a folder")
    return Path(expanded)


def _version(path: Path) -> _Version:
    if not path.is_file():
        raise InputError(f"{path} does not exist: make it with data/prepare.py images=FOLDER store={path}")
    if journal_path(path).exists():
        raise InputError(f"{path} is being written, or that was interrupted: run data/prepare.py to finish it")
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"staging to {folder} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
            "remove old copies there, or train from the store itself"
        )


def _copy(source: Path, version: _Version, target: Path, progress: tqdm) -> None:
    with whole_or_absent(target) as partial:
        with source.open("rb") as read, partial.open("wb") as written:
            while part := read.read(PART):
                written.write(part)
                progress.update(len(part))
        if _version(source) != version or partial.stat().st_size != version[0]:
            raise InputError(f"{source} changed while it was being copied: start again when it is finished")
