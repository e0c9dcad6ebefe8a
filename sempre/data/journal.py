"""A file that a kill cannot break: SQLite's rollback journal, under HDF5.

HDF5 rewrites its own tables in place, so a program killed while it writes may leave a file that nothing opens.
Here each stretch of a file about to be overwritten is first copied to `<file>-journal`. `commit` makes the writes
final by removing the journal. A journal that is found when the file is opened is rolled back: the file is then, byte
for byte, what it was at the last commit. (See "Atomic Commit In SQLite", sqlite.org/atomiccommit.html.) This holds for
a killed process and a full disk; a power cut may lose what the system had not yet written.
"""

import io
import os
import struct
import zlib
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from sempre.errors import InputError
from sempre.locks import try_lock

try:
    import fcntl
except ImportError:  # Windows: two writers of one file are the user's to avoid
    fcntl = None


PAGE = 4096
_HEADER = struct.Struct("<8sQ")  # magic, committed length of the file
_RECORD = struct.Struct("<QII")  # offset, length and CRC-32 of the saved bytes
_MAGIC = b"SEMPREJ1"


def journal_path(path: str | Path) -> Path:
    """Where the journal of `path` lies while its writes are not final."""
    return Path(f"{path}-journal")


class JournaledFile(io.RawIOBase):
    """A binary file for `h5py.File(journaled, "r+")`, created when missing, whose writes are all or nothing.

    A write that fails (full disk) does not raise: HDF5 crashes the process when its driver fails in the middle of a
    flush. From then on the file keeps writes in memory, so that HDF5 sees what it wrote and can close; `check` and
    `commit` raise the error, and closing takes back the rest.

    Raises:
        InputError: when another process is using the file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            _lock(self._file.fileno(), self.path)
            self._journal = None
            self._error: OSError | None = None
            self._unwritten: list[tuple[int, bytes]] = []
            _undo(self._file, journal_path(self.path))
            self._begin()
        except BaseException:
            self._file.close()
            raise

    def check(self) -> None:
        """Raise the error of a write that failed since the last commit."""
        if self._error is not None:
            raise self._error

    def commit(self) -> None:
        """Make all writes so far final.

        Raises:
            OSError: when one of them failed.
        """
        self.check()
        os.fsync(self._file.fileno())
        if self._journal is not None:
            self._journal.close()
            self._journal = None
            journal_path(self.path).unlink()
        self._begin()

    def roll_back(self) -> None:
        """Take back every write since the last commit."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        _undo(self._file, journal_path(self.path))
        self._error, self._unwritten = None, []
        self._begin()

    def write(self, data) -> int:
        data = memoryview(data).cast("B")
        position = self._file.tell()
        if self._error is None:
            try:
                self._save(position, position + len(data))
                written = 0
                while written < len(data):
                    written += self._file.write(data[written:])
            except OSError as error:
                self._error = error
        if self._error is not None:
            self._unwritten.append((position, bytes(data)))
            self._file.seek(position + len(data))
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        size = self._file.tell() if size is None else size
        if self._error is None:
            try:
                self._save(size, self._committed)
                self._file.truncate(size)
            except OSError as error:
                self._error = error
        return size

    def readinto(self, buffer) -> int:
        start = self._file.tell()
        count = self._file.readinto(buffer)
        # HDF5 may read beyond the end what it has allocated and not yet written.
        target = memoryview(buffer).cast("B")
        target[count:] = bytes(len(target) - count)
        for position, data in self._unwritten:
            first, end = max(start, position), min(start + len(target), position + len(data))
            if first < end:
                target[first - start : end - start] = data[first - position : end - position]
                count = max(count, end - start)
        self._file.seek(start + count)
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        """Nothing is buffered here; `commit` is what makes writes final."""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Close the file; writes since the last commit are taken back."""
        if not self.closed:
            try:
                self.roll_back()
            finally:
                self._file.close()
                super().close()

    def _begin(self) -> None:
        self._committed = os.fstat(self._file.fileno()).st_size
        self._saved_pages = set()

    def _save(self, start: int, end: int) -> None:
        """Copy the committed pages between two offsets to the journal, once each, before they change."""
        if self._journal is None:
            self._journal = journal_path(self.path).open("wb", buffering=0)
            self._journal.write(_HEADER.pack(_MAGIC, self._committed))
        position = self._file.tell()
        for page in range(start // PAGE, -(-min(end, self._committed) // PAGE)):
            if page in self._saved_pages:
                continue
            offset = page * PAGE
            self._file.seek(offset)
            saved = self._file.read(min(PAGE, self._committed - offset))
            # One write a record: a kill leaves it whole or, by its checksum, recognisably not.
            record = _RECORD.pack(offset, len(saved), zlib.crc32(saved)) + saved
            if self._journal.write(record) != len(record):
                raise OSError(f"{journal_path(self.path)} could not be written: the disk may be full")
            self._saved_pages.add(page)
        self._file.seek(position)


def append_rows(dataset: h5py.Dataset, values: np.ndarray) -> None:
    """Lengthen a resizable dataset by `values`, `[rows, ...]`."""
    first = len(dataset)
    dataset.resize(first + len(values), axis=0)
    dataset[first:] = values


def _undo(file: io.RawIOBase, journal: Path) -> None:
    """Bring `file` back to what it was when `journal` was begun, and remove the journal. Safe to repeat."""
    if not journal.exists():
        return
    with journal.open("rb") as records:
        header = records.read(_HEADER.size)
        # A header that is not whole: the kill came before anything was overwritten.
        if len(header) == _HEADER.size:
            magic, committed = _HEADER.unpack(header)
            if magic != _MAGIC:
                raise InputError(f"{journal} is not a journal of sempre: move it away")
            while len(head := records.read(_RECORD.size)) == _RECORD.size:
                offset, length, checksum = _RECORD.unpack(head)
                saved = records.read(length)
                if len(saved) != length or zlib.crc32(saved) != checksum:
                    break
                file.seek(offset)
                file.write(saved)
            file.truncate(committed)
            os.fsync(file.fileno())
    journal.unlink()


def _lock(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return
    if not try_lock(partial(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB), path):
        raise InputError(f"{path} is in use: wait until it is not being written or read, or choose another name")
