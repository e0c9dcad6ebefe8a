"""Segment what arrives in folders while a microscope writes there; they are polled, for network shares tell nothing."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sempre.deploy.batch import Batch
from sempre.deploy.inputs import Source, find_inputs, share_of
from sempre.deploy.micrograph_results import tell
from sempre.errors import InputError, one_line
from sempre.images.read import count_pages, read_micrograph
from sempre.images.sidecar import find_sidecars

SETTLE_SECONDS = 5.0  # that a file must have stayed the same
POLL_SECONDS = 1.0  # between two looks at the folders, more where a look takes long
LISTING_SHARE = 0.2  # of the time may go into looking
LONGEST_RETRY_SECONDS = 300.0  # between two attempts at a file that stays the same and cannot be read
SLEEP_SECONDS = 0.1  # after which a signal to end is noticed at the latest

Signature = tuple[tuple[int, int], ...]  # size and time of change of a file and of those beside it


@dataclass
class Arrival:
    """A file that is not segmented yet: since when it is the same, and how often it could not be read."""

    signature: Signature
    next_look: float
    attempts: int = 0


def check_folders(folders: Sequence[Path], out: Path) -> None:
    """Check what is to be watched.

    Raises:
        InputError: for names that are no folders, and for one that is that of the results.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--watch {folder} is no folder: give the one that the micrographs arrive in")
        if folder.resolve() == out.resolve():
            raise InputError(f"--out {out} is the folder of the micrographs: give another, or one below it")


def watch(folders: Sequence[Path], batch: Batch, stopped: Callable[[], bool], settle: float = SETTLE_SECONDS) -> int:
    """Segment what is in the folders and what arrives there until `stopped`; the exit code, as of `segment_batch`.

    A file is segmented when its size and its time of change have stayed the same for `settle` seconds and it can be
    read as a whole. One that changes later is segmented again. What an earlier run did is not done again.
    """
    handled: dict[Path, Signature] = {}
    arrivals: dict[Path, Arrival] = {}
    sources: list[Source] = []
    while not stopped():
        begun = time.monotonic()
        sources = _look(folders, batch.options.out)
        ready = _settled(share_of(sources, batch.options.shard), handled, arrivals, settle)
        whole = [source for source in ready if _opens(source, batch, arrivals[source.path], settle)]
        for source in whole:
            handled[source.path] = arrivals.pop(source.path).signature
        looked = time.monotonic() - begun
        if whole:
            try:
                batch.segment(sources, whole, stopped)
            except InputError as error:  # two of them ask for results of one name
                batch.fail(", ".join(source.path.name for source in whole), one_line(error))
        else:
            _sleep(max(min(POLL_SECONDS, settle), looked / LISTING_SHARE), stopped)
    _close(sources, arrivals, batch)
    return batch.finish()


def _look(folders: Sequence[Path], out: Path) -> list[Source]:
    """The micrographs that are in the folders now; none where there are none, or where a share is away."""
    try:
        return find_inputs(folders, out).sources
    except (InputError, OSError):
        return []


def _settled(
    sources: Sequence[Source], handled: dict[Path, Signature], arrivals: dict[Path, Arrival], settle: float
) -> list[Source]:
    """Those of the sources that are new or changed and have then stayed the same. `arrivals` is brought up to date."""
    now = time.monotonic()
    signatures = {source.path: signature for source in sources if (signature := signature_of(source.path))}
    for path in set(arrivals) - set(signatures):
        del arrivals[path]
    ready = []
    for source in sources:
        signature = signatures.get(source.path)
        if signature is None or handled.get(source.path) == signature:
            continue
        arrival = arrivals.get(source.path)
        if arrival is None or arrival.signature != signature:
            arrivals[source.path] = Arrival(signature, now + settle)
        elif now >= arrival.next_look:
            ready.append(source)
    return ready


def signature_of(path: Path) -> Signature | None:
    """Changes when a file, or one beside it that tells its pixel size, is written to; None where there is no file."""
    try:
        statuses = [file.stat() for file in (path, *find_sidecars(path))]
    except OSError:
        return None
    return tuple((status.st_size, status.st_mtime_ns) for status in statuses)


def _opens(source: Source, batch: Batch, arrival: Arrival, settle: float) -> bool:
    """Whether a micrograph can be read as a whole; if not, it is told once, and tried again later and less often."""
    try:
        last = count_pages(source.path) if batch.options.pages == "all" else None
        read_micrograph(source.path, page=last)
    except (InputError, OSError) as error:
        if source.path.exists():
            if arrival.attempts == 0:
                tell(f"waiting for {source.path.name}: {one_line(error)}")
            arrival.attempts += 1
            arrival.next_look = time.monotonic() + min(settle * 2**arrival.attempts, LONGEST_RETRY_SECONDS)
        return False
    return True


def _close(sources: Sequence[Source], arrivals: dict[Path, Arrival], batch: Batch) -> None:
    """Record as failed what could never be read, and say which files were still being written."""
    unreadable = [source for source in sources if source.path in arrivals and arrivals[source.path].attempts]
    if unreadable:
        batch.segment(sources, unreadable)
    left = [path.name for path, arrival in arrivals.items() if not arrival.attempts]
    if left:
        tell(f"not segmented, for they were still being written: {', '.join(left)}; the same command goes on with them")


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stopped() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, SLEEP_SECONDS))


@contextmanager
def ended_by_signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has asked the block to end. A second one interrupts it, as the first does elsewhere."""
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        # Not by print, which may be at work at this moment.
        os.write(2, b"\nending when the micrograph at work is done; Ctrl-C again ends at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(asked)
        return
    handlers = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
