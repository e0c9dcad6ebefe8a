"""Locks on files, and file systems that have none: Lustre without `-o flock`, NFS without its lock daemon, some FUSE.

There whatever is to be locked goes on unlocked, and one warning says so.
"""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

try:
    import fcntl
except ImportError:  # Windows, where nobody runs two jobs on one folder
    fcntl = None

IN_USE = (errno.EACCES, errno.EAGAIN)  # what POSIX answers when another process has the lock
BEGUN_SECONDS = 5.0  # that a file may take to say whose it is

_warned: set[int] = set()  # errors of which has been told


def try_lock(lock: Callable[[], None], path: Path) -> bool:
    """Whether `lock` got its lock on `path`, or there are no locks on its file system; false when it is in use."""
    try:
        lock()
    except OSError as error:
        if error.errno in IN_USE:
            return False
        warn_once(error, path)
    return True


def warn_once(error: OSError, path: Path) -> None:
    """Say that a file system has no locks, once a process."""
    if error.errno in _warned:
        return
    _warned.add(error.errno or 0)
    print(
        f"warning: {path} lies on a file system without locks ({os.strerror(error.errno or 0)}): nothing here keeps a "
        "second process from the same files, so start one at a time",
        file=sys.stderr,
    )


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """The block runs in one process of this computer at a time; the others wait.

    By a lock on `path`. Where there are none, by a file beside it that is there while the block runs, with the number
    of its process: one whose process is gone does not count.
    """
    from filelock import FileLock  # which the base install does without

    if _can_lock(path):
        with FileLock(path):
            yield
        return
    taken = path.with_name(f"{path.name}.taken")
    while not _take(taken):
        time.sleep(0.2)
    try:
        yield
    finally:
        taken.unlink(missing_ok=True)


def open_hdf5_file(path: str | Path) -> h5py.File:
    """An HDF5 file for reading: locked against writers, where its file system has locks.

    Raises:
        OSError: when it cannot be opened, or is being written.
    """
    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        open_unlocked = "flag values don't match" in str(error)  # by this process, which has to do the same again
        if not open_unlocked:
            if not lacks_locks(error):
                raise
            warn_once(OSError(_number(error), ""), Path(path))
    return h5py.File(path, "r", locking=False)


def lacks_locks(error: OSError) -> bool:
    """Whether HDF5 could not open a file because its file system has no locks."""
    return "lock file" in str(error) and _number(error) not in IN_USE


def _number(error: OSError) -> int:
    """The errno of an error of HDF5's, which is in its text alone at times."""
    if error.errno:
        return error.errno
    digits = str(error).partition("errno = ")[2].partition(",")[0].strip()
    return int(digits) if digits.isdecimal() else 0


def _can_lock(path: Path) -> bool:
    if fcntl is None:
        return True
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in IN_USE:
            warn_once(error, path)
            return False
    finally:
        os.close(descriptor)
    return True


def _take(taken: Path) -> bool:
    try:
        with taken.open("x") as file:
            file.write(str(os.getpid()))
        return True
    except FileExistsError:
        pass
    try:
        age, owner = time.time() - taken.stat().st_mtime, taken.read_text()
    except FileNotFoundError:
        return False
    if not _runs(int(owner)) if owner.isdecimal() else age > BEGUN_SECONDS:
        taken.unlink(missing_ok=True)
    return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
