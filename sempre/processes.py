"""Worker processes that leave Ctrl-C to the main process, from their first moment on, and do not outlive it."""

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TypeVar

from sempre.errors import InputError, run_command

Item = TypeVar("Item")


def run_in_one_process(main: Callable[[], int | None]) -> None:
    """`sempre.errors.run_command` for a command that computes in one process, however many a launcher starts of it.

    The first one does the work as if it were the only one. The others end at once: they would do the same again and
    write the same files, or wait where it does not come.
    """
    if int(os.environ.get("RANK", "0")):
        sys.exit(0)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        print("this computes in one process: the others that were started have ended", flush=True)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    run_command(main)


def in_order(work: Callable, tasks: Iterable[tuple], workers: int) -> Iterator:
    """`work(*task)` of every task in the tasks' order, by `workers` processes, with few results waiting in memory.

    One worker is this process itself.

    Raises:
        InputError: when a worker has died.
    """
    if workers == 1:
        yield from (work(*task) for task in tasks)
        return
    # Spawned on every system alike: a forked process would share what is open for writing here.
    with enough_shared_memory("workers=1"):
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_main_process)
    with pool:
        waiting = deque()
        try:
            for task in tasks:
                with without_interrupts():  # a worker may start here
                    waiting.append(pool.submit(work, *task))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise InputError("a worker process died, perhaps for lack of memory: start again with workers=1") from error
        finally:
            pool.shutdown(cancel_futures=True)


def batches_of(loader: Iterable[Item]) -> Iterator[Item]:
    """What a torch DataLoader yields; its workers, which start at the first batch, do not hear of Ctrl-C.

    Raises:
        InputError: when shared memory does not suffice for what the workers hand over.
    """
    if not getattr(loader, "num_workers", 0):
        yield from loader
        return
    collate = getattr(loader, "collate_fn", None)
    if collate is not None and not isinstance(collate, IntoSharedMemory):
        loader.collate_fn = IntoSharedMemory(collate)  # pyright: ignore[reportAttributeAccessIssue]  # a DataLoader's
    with enough_shared_memory("workers=0"):
        with without_interrupts():
            batches = iter(loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch


class IntoSharedMemory:
    """A DataLoader's `collate_fn` that puts a batch's tensors into shared memory in the worker.

    Left to the queue between the processes, it would be done in a thread of it: an error there is printed, and the main
    process waits for ever for the batch.
    """

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, items: list) -> object:
        from torch.utils.data import get_worker_info

        batch = self.collate(items)
        return _share(batch) if get_worker_info() is not None else batch


def _share(part: object) -> object:
    """`part` with all tensors in its dicts, lists and tuples in shared memory."""
    if isinstance(part, dict):
        for value in part.values():
            _share(value)
    elif isinstance(part, list | tuple):
        for value in part:
            _share(value)
    elif hasattr(part, "share_memory_"):
        part.share_memory_()  # pyright: ignore[reportAttributeAccessIssue]  # a tensor's
    return part


@contextmanager
def enough_shared_memory(way_out: str) -> Iterator[None]:
    """What is done inside has processes that share memory; `way_out` is the option that does without them.

    Raises:
        InputError: when there is too little of it, as in many containers.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
        if not full and "shared memory" not in str(error):
            raise
        held = ""
        with suppress(OSError):
            held = f" (/dev/shm has {shutil.disk_usage('/dev/shm').total / 1e6:,.1f} MB)"
        raise InputError(
            f"worker processes have too little shared memory{held}: start again with {way_out}, or give the container "
            "more of it (docker run --shm-size=8g, apptainer: that of the host)"
        ) from error


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back; processes that start meanwhile do not hear of it even while they import."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # which the first spawned process would start, and that lets signals in again
    with interrupts_wait():  # other threads, which block nothing, may be told
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back in this process until the block ends; inside calls of HDF5, for one, it would be a crash."""
    if threading.current_thread() is not threading.main_thread():  # only the main one is interrupted
        yield
        return
    received = []
    handler = signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received and callable(handler):
            handler(*received[0])


def _follow_main_process() -> None:
    """In a worker: leave Ctrl-C to the main process, and end when that is killed, of which nothing else would tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None  # of a worker
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
