"""Segment a batch with several processes, each with a network of its own on its share of the cores or on its GPU."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path

from sempre.deploy.batch import Job, Run, batch_settings, in_this_process, scale_bar_reader
from sempre.deploy.micrograph_results import BatchOptions, segment_or_fail, tell
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from sempre.processes import Died, Workers, enough_shared_memory


@dataclass(frozen=True)
class Means:
    """What a process needs to segment: the arguments of `Segmenter`, and whether it reads scale bars (None: if it can).

    Attributes:
        device: with several workers and the provider cuda the numbers of the GPUs, as in "0,1,3"; None is one each.
    """

    model: str | Path
    threads: int | None = None
    tile: int | None = None
    flips: bool = False
    scale: float | None = None
    provider: str = "cpu"
    device: str | None = None
    scale_bar: bool | None = False


@contextmanager
def begin(means: Means, options: BatchOptions, workers: int = 1) -> Iterator[tuple[list, Run]]:
    """The settings that a batch's results depend on, and what does its jobs: this process, or several others.

    Raises:
        InputError: for means that cannot be used.
    """
    if workers == 1:
        yield in_this_process(*_open(means, options))
        return
    shares = [(share, options) for share in divide(means, workers)]
    with enough_shared_memory("--workers 1"), Workers(_prepare, shares) as pool:
        said: set[str] = set()

        def run(jobs: Iterable[Job]) -> Iterator[tuple[Job, dict[str, str]]]:
            for job, result in pool.results(jobs):
                if isinstance(result, Died):
                    yield job, {"error": f"{result.message}: segment again with fewer --workers or a smaller --tile"}
                    continue
                columns, told = result
                for line in told:
                    if line not in said:  # what every process says once, all of them say once
                        said.add(line)
                        tell(line)
                yield job, columns

        yield pool.told, run


def divide(means: Means, workers: int) -> list[Means]:
    """The means of each of several workers: its share of the threads, and its GPU with the provider cuda.

    Raises:
        InputError: for fewer than one worker or thread.
    """
    if workers < 1:
        raise InputError(f"{workers} workers cannot compute: give 1 or more")
    if means.threads is not None and means.threads < 1:
        raise InputError(f"{means.threads} threads cannot compute: give 1 or more")
    threads = max((means.threads or available_cores()) // workers, 1)
    devices: list[str | None] = [means.device]
    if means.provider == "cuda":
        devices = list(map(str, range(workers))) if means.device is None else [*means.device.split(",")]
    return [replace(means, threads=threads, device=devices[number % len(devices)]) for number in range(workers)]


def available_cores() -> int:
    """The processor cores that this process may use, which a batch system or a container may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open(means: Means, options: BatchOptions):
    segmenter = Segmenter(
        means.model,
        means.threads,
        tile=means.tile,
        flips=means.flips,
        scale=means.scale,
        provider=means.provider,
        device=means.device,
    )
    # A size by hand leaves nothing to read.
    reader = scale_bar_reader(means.scale_bar, means.threads) if options.pixel_size_nm is None else None
    return segmenter, options, reader


def _prepare(means: Means, options: BatchOptions):
    """In a worker: what does a job, its columns of the summary and the lines it told, and the batch's settings."""
    segmenter, options, reader = _open(means, options)

    def work(job: Job) -> tuple[dict[str, str], list[str]]:
        with redirect_stderr(io.StringIO()) as told:  # the main process prints it above its bar
            columns = segment_or_fail(job.source, options.out / job.results, segmenter, options, reader)
        return columns, told.getvalue().splitlines()

    return work, batch_settings(segmenter, options, reader)
