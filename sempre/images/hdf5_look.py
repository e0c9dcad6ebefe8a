"""The process that looks through HDF5 files before they are read: `sempre.images.hdf5_guard` starts and asks it."""

import faulthandler
import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from sempre.images.claims import look_at_own
from sempre.images.volume import look_at

WAITING = 6.0  # times as long that it may take on Windows, which limits no computing
IMPORTED = {".emd": ("rsciio.emd", "dask.array")}  # late, by the readers of files with such a suffix


def answer() -> None:
    """In the process of its own: send a byte when it has started, and one for every file that it is through with.

    Its time ends it: nothing else can while HDF5 computes, and the main process may be gone. So does the end of that.
    """
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
