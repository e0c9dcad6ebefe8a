"""Copying a store to a node's own disk, once a node, before many processes read it at random."""

import hashlib
import os
import shutil
from pathlib import Path

from tqdm import tqdm

from sempre.data.stores.journal import journal_path
from sempre.data.stores.shards import names_one_file, shard_paths
from sempre.errors import InputError
from sempre.files import whole_or_absent
from sempre.locks import one_at_a_time

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
