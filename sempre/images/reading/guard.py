"""HDF5 files are looked through in a process of its own first: HDF5 finds no end in some damaged ones, and crashes."""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path

from sempre.errors import InputError

COMPUTING = 8.0  # s that HDF5 may compute over a file but for its pixels
PART = 1e9  # bytes of a file for which it has a second more: a table of 1,000,000 chunks takes it 3
WAITING = 6.0  # times as long that it may take on Windows, which limits no computing
KNOWN = 1 << 14  # files that are not looked through again
# As the main process finds its modules, from whichever folder it was started.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from sempre.images.reading.guard import answer; answer()"
IMPORTED = {".emd": ("rsciio.emd", "dask.array")}  # late, by the readers of files with such a suffix

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


def answer() -> None:
    """In the process of its own: send a byte when it has started, and one for every file that it is through with.

    Its time ends it: nothing else can while HDF5 computes, and the main process may be gone. So does the end of that.
    """
    from sempre.images.reading.claims import look_at_own
    from sempre.images.reading.volume import look_at

    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    os.write(answers, b"\n")
    for line in sys.stdin:
        name, own, seconds = json.loads(line)
        path = Path(name)
        with suppress(ImportError):
            for module in IMPORTED.get(path.suffix.lower(), ()):
                import_module(module)
        _limit(seconds)
        (look_at_own if own else look_at)(path)
        _limit(0)
        os.write(answers, b"\n")


def _limit(seconds: float) -> None:
    """End this process once it has computed for so many seconds; 0 lifts that.

    Time that a slow disk takes is not counted, but on Windows: there it has `WAITING` times as long.
    """
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
    elif seconds:
        faulthandler.dump_traceback_later(WAITING * seconds, exit=True, file=2)
    else:
        faulthandler.cancel_dump_traceback_later()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_forget)
