"""Worker processes that leave Ctrl-C to the main process, from their first moment on, and do not outlive it."""

import errno
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar, cast

from sempre.errors import InputError, run_command

Item = TypeVar("Item")
LEAVE_SECONDS = 10.0  # that a worker process has to end by itself


class _End:
    """What is sent to a worker in the place of a task when there are no more."""


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


@dataclass(frozen=True)
class Died:
    """Stands in the place of the result of a task whose worker process died."""

    message: str


@dataclass
class _Worker:
    number: int  # counted from 1
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    task: Any = None
    busy: bool = False


class Workers:
    """Processes that each prepare once and then do one task after another. One that dies takes no other with it.

    Use it as a context: at the end of the block the processes end, at once if it ends by an error or by Ctrl-C.

    Args:
        prepare: called in each process with its `arguments`; gives the function that does a task, and something to
            tell the main process, which is `told` here.
        arguments: one tuple for each process.

    Raises:
        InputError: on entering, when `prepare` raises one, or a process dies before it is ready.
    """

    def __init__(self, prepare: Callable[..., tuple[Callable, Any]], arguments: Sequence[tuple]):
        self.prepare, self.arguments = prepare, arguments
        self.told: Any = None
        self.workers: list[_Worker] = []

    def __enter__(self) -> "Workers":
        try:
            self.workers = [self._start(number) for number in range(1, len(self.arguments) + 1)]
            while waiting := [worker for worker in self.workers if not worker.ready]:
                for worker in _heard(waiting):
                    answer = _receive(worker)
                    if answer is None:
                        raise InputError(f"{_how_it_died(worker)} before it could begin: take fewer workers")
                    self._take_up(worker, *answer)
        except BaseException:
            self._end(at_once=True)
            raise
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._end(at_once=kind is not None)

    def results(self, tasks: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """Each task with its result, in the order in which they are done, or with `Died`.

        A task is taken from `tasks` when a process is free for it. In the place of a process that died another one is
        started, unless it dies before it is ready.
        """
        waiting = iter(tasks)
        returned: list[Item] = []  # by workers that died before they began with them
        exhausted = False
        while True:
            for worker in [worker for worker in self.workers if worker.ready and not worker.busy]:
                task = returned.pop() if returned else next(waiting, _End)
                if task is _End:
                    exhausted = True
                    break
                try:
                    worker.connection.send(task)
                except OSError:
                    returned.append(cast(Item, task))
                    self._replace(worker)
                    continue
                worker.task, worker.busy = task, True
            if not self.workers:
                yield from ((task, Died("no worker process is left")) for task in [*returned, *waiting])
                return
            if exhausted and not returned and not any(worker.busy for worker in self.workers):
                return
            for worker in _heard(self.workers):
                answer = _receive(worker)
                if answer is None:
                    if worker.busy:
                        yield cast(Item, worker.task), Died(_how_it_died(worker))
                    self._replace(worker)
                elif worker.ready:
                    worker.busy = False
                    yield cast(Item, worker.task), answer[1]
                else:
                    self._take_up(worker, *answer)

    def _start(self, number: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        with without_interrupts():
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self.prepare, self.arguments[number - 1]))
            process.start()
        theirs.close()  # so that the end of the process is seen here
        return _Worker(number, process, ours)

    def _take_up(self, worker: _Worker, refused: bool, said: Any) -> None:
        if refused:
            raise InputError(said)
        worker.ready = True
        self.told = said if self.told is None else self.told

    def _replace(self, worker: _Worker) -> None:
        worker.connection.close()
        self.workers.remove(worker)
        if worker.ready:
            self.workers.append(self._start(worker.number))

    def _end(self, at_once: bool) -> None:
        for worker in self.workers:
            with suppress(OSError):
                if at_once:
                    worker.process.terminate()
                else:
                    worker.connection.send(_End)
        for worker in self.workers:
            worker.process.join(LEAVE_SECONDS)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.connection.close()


def _heard(workers: Sequence[_Worker]) -> list[_Worker]:
    """The workers that have sent something or have ended; waits for the first."""
    heard = multiprocessing.connection.wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in heard]


def _receive(worker: _Worker) -> tuple[bool, Any] | None:
    """What a worker has sent; None of one that has ended."""
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        return None


def _how_it_died(worker: _Worker) -> str:
    worker.process.join(LEAVE_SECONDS)
    code = worker.process.exitcode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    memory = ", perhaps for lack of memory" if code in (None, -signal.SIGTERM, -9) else ""
    return f"worker {worker.number} (process {worker.process.pid}) {how}{memory}"


def _serve(connection: Connection, prepare: Callable[..., tuple[Callable, Any]], arguments: tuple) -> None:
    """What a process of `Workers` does. Each answer is a pair: whether it is a refusal, and what is told."""
    _follow_main_process()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that half-written files are removed
    try:
        work, told = prepare(*arguments)
    except InputError as error:
        connection.send((True, str(error)))
        return
    connection.send((False, told))
    while (task := connection.recv()) is not _End:
        connection.send((False, work(task)))


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
