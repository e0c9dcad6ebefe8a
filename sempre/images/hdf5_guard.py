"""HDF5 files are looked through in a process of its own first: HDF5 finds no end in some damaged ones, and crashes."""

import json
import os
import subprocess
import sys
import threading
from functools import cache, lru_cache
from pathlib import Path

from sempre.errors import InputError

COMPUTING = 8.0  # s that HDF5 may compute over a file but for its pixels
PART = 1e9  # bytes of a file for which it has a second more: a table of 1,000,000 chunks takes it 3
KNOWN = 1 << 14  # files that are not looked through again
# As the main process finds its modules, from whichever folder it was started.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from sempre.images.hdf5_look import answer; answer()"

_turn = threading.Lock()


def look_through(path: Path, own: bool = False) -> None:
    """Go through all of an HDF5 file that reading it will look at but its pixels, in a process that may be lost.

    The file is a micrograph or a volume, or one of sempre's `own` formats.

    That process is started for the first such file, and waits for more until this one ends.

    Raises:
        InputError: when HDF5 computes for longer than it may, or ends the process.
    """
    state = path.stat()
    _look_through(path.absolute(), own, state.st_size, state.st_mtime_ns)


@lru_cache(KNOWN)
def _look_through(path: Path, own: bool, size: int, changed: int) -> None:
    """`size` and `changed` tell a file from what it was before."""
    with _turn:
        process = _process()
        if process.poll() is not None:  # ended by somebody since the last file
            _end()
            process = _process()
        assert process.stdin and process.stdout  # pipes
        try:
            process.stdin.write(json.dumps([str(path), own, COMPUTING + size / PART]).encode() + b"\n")
            answered = process.stdout.read(1)
        except BaseException:  # an interrupt, for one: the answer would be taken for the next file's
            _end()
            raise
        if not answered:
            _end()
            raise InputError(
                f"{path} is damaged: HDF5 finds no end in it or crashes, copy it again to a disk of this computer"
            )


@cache
def _process() -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *sys.path],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is the main process's alone
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # nor does it come there on Windows
    )
    assert process.stdout  # a pipe
    if not process.stdout.read(1):
        process.wait()
        raise InputError(f"{sys.executable} does not start to look through HDF5 files: install sempre again")
    return process


def _end() -> None:
    process = _process()
    _process.cache_clear()
    process.kill()
    with process:  # closes its pipes
        pass


def _forget() -> None:
    """In a forked process: the one that looks through files is the main process's."""
    _process.cache_clear()
    _turn.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_forget)
