"""Worker processes that leave Ctrl-C to the main process, from their first moment on, and do not outlive it."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TypeVar

from sempre.errors import InputError

Item = TypeVar("Item")


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
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_main_process) as pool:
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
    """What a torch DataLoader yields; its workers, which start at the first batch, do not hear of Ctrl-C."""
    if not getattr(loader, "num_workers", 0):
        yield from loader
        return
    with without_interrupts():
        batches = iter(loader)
    yield from batches


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
