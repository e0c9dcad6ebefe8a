"""Cases of a format: which one it is, run in a process that is watched for its time, its memory and its life."""

import faulthandler
import importlib
import logging
import multiprocessing
import os
import re
import resource
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil

from sempre.errors import InputError

LONGEST = 10.0  # s that a case may take
LARGEST = 1 << 30  # bytes that the whole process may hold
BRAKE = 3 << 30  # bytes more than it has at first that a process is refused
STARTING = 120.0  # s that a process may take before its first case: it imports PyTorch


@dataclass(frozen=True)
class Format:
    """What is fuzzed: small whole files, how they are damaged, and the entrances that the damaged ones are put through.

    `enter` takes the file's path; it may raise an `InputError`, nothing else.
    """

    name: str
    suffix: str
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[bytes, np.random.Generator], bytes]
    enter: Callable[[Path], None]

    @property
    def file_name(self) -> str:
        """Of a case: readers go by suffixes, and some files have names."""
        return f"case{self.suffix}" if self.suffix[0] in "._" else self.suffix


@dataclass(frozen=True)
class Outcome:
    """Of a case: `kind` is "read", "refused" (an `InputError`), or a failure: "traceback", "hang", "memory", "crash".

    `peak` in bytes is the most that the process held.
    """

    number: int
    kind: str
    detail: str = ""
    peak: int = 0

    @property
    def failed(self) -> bool:
        return self.kind not in ("read", "refused")


def case_content(format: Format, seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """The damaged file of case `number`, the same on every machine."""
    random = np.random.default_rng([seed, zlib.crc32(format.name.encode()), number])
    return format.mutate(seeds[int(random.integers(len(seeds)))], random)


def run_case(format: Format, path: Path) -> tuple[str, str]:
    """Put a file through the format's entrances; the kind of outcome and what was said."""
    try:
        format.enter(path)
    except InputError as error:
        short = _out_of_memory(error)
        return ("memory", _where(short)) if short else ("refused", str(error))
    except MemoryError as error:
        return "memory", _where(error)
    except Exception as error:
        return "traceback", _where(error)
    return "read", ""


def watched_cases(module: str, name: str, seed: int, first: int, end: int) -> Iterator[Outcome]:
    """Outcomes of the cases `first` to `end` of the format `name` of `module`, in order.

    They run in a process of their own, which is ended and replaced when it hangs, dies or takes too much memory.
    """
    context = multiprocessing.get_context("spawn")
    number = first
    while number < end:
        ours, theirs = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory() as folder:
            arguments = (theirs, module, name, seed, number, end, folder)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            try:
                yielded = 0
                while number < end:
                    if not _answers(ours, psutil.Process(process.pid), LONGEST if yielded else STARTING):
                        yield Outcome(number, "hang", _stack(folder))
                        number += 1
                        break
                    outcome = ours.recv()
                    yielded += 1
                    if outcome is None:  # it has started
                        continue
                    yield outcome
                    number += 1
                    if outcome.kind == "memory":
                        break
            except EOFError:
                process.join()
                yield Outcome(number, "crash", f"exit code {process.exitcode}: {_stack(folder)}")
                number += 1
            finally:
                process.kill()
                process.join()
                ours.close()


def _answers(results: Connection, watched: psutil.Process, seconds: float) -> bool:
    """Whether a process sends something before it has computed for so many seconds, or waited for ten times as long.

    On a busy machine a clock on the wall would take what waits for its turn for a hang.
    """
    computed, deadline = sum(watched.cpu_times()[:2]), time.monotonic() + 10 * seconds
    while not results.poll(1.0):
        if sum(watched.cpu_times()[:2]) - computed > seconds or time.monotonic() > deadline:
            return False
    return True


def _work(results: Connection, module: str, name: str, seed: int, first: int, end: int, folder: str) -> None:
    format = importlib.import_module(module).FORMATS[name]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    logging.disable()
    seeds = format.seeds()
    path = Path(folder) / format.file_name
    path.write_bytes(seeds[0])
    run_case(format, path)  # what is imported late is imported now
    with Path("/proc/self/statm").open() as file:
        data = int(file.read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (data + BRAKE, data + BRAKE))
    results.send(None)
    with (Path(folder) / "stack.txt").open("w") as stack:
        faulthandler.enable(stack)
        for number in range(first, end):
            path.write_bytes(case_content(format, seeds, seed, number))
            _forget_peak()
            faulthandler.dump_traceback_later(0.9 * LONGEST, file=stack)
            kind, detail = run_case(format, path)
            faulthandler.cancel_dump_traceback_later()
            peak = _peak()
            if peak > LARGEST and kind != "traceback":
                kind, detail = "memory", f"{peak >> 20} MB: {detail}"
            results.send(Outcome(number, kind, detail, peak))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def _out_of_memory(error: BaseException | None) -> BaseException | None:
    """The shortage of memory that an error was made of."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__
    return error


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/sempre/" in frame.filename and "/fuzzing/" not in frame.filename]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in (*ours[-1:], *frames[-1:])]
    return f"{type(error).__name__}: {str(error)[:200]} ({' > '.join(dict.fromkeys(places))})"


def _stack(folder: str) -> str:
    """Where a process was that did not answer."""
    path = Path(folder) / "stack.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    starts = [number for number, line in enumerate(lines) if "most recent call first" in line]
    places = re.findall(r'/([^/"]+)", line (\d+) in (\w+)', "\n".join(lines[starts[-1] if starts else 0 :]))
    return " > ".join(f"{file}:{line} {function}" for file, line, function in places[:12])
