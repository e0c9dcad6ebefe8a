"""Signals that announce the end of a job, and when the ranks look for them."""

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator

Item = TypeVar("Item")

# sysexits.h: "temporary failure, the user is invited to retry"; a batch system may requeue on it.
EXIT_PREEMPTED = 75
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):
    """A signal has come in the midst of something that can be given up and done again."""


class StopSignal:
    """What SIGTERM or SIGUSR1 does (Slurm's `--signal=B:USR1@120`, a preemption, `kill`), from now on.

    As a rule the process leaves at once with `EXIT_PREEMPTED`: what it was about to write is absent, not half there,
    and the same command does it again. Inside `held()` there is more to lose: the signal is noted, the object becomes
    true, and whoever looks at it saves first.
    """

    def __init__(self):
        self.received = self.holding = False
        for number in SIGNALS:
            signal.signal(number, self._receive)
        # slurm/launch.py blocks SIGUSR1 for its processes until they can answer it, that is, now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Note signals, in place of leaving."""
        self.holding = True
        try:
            yield
        finally:
            self.holding = False

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, one by one.

        Raises:
            Stopped: in place of the next item, once a signal has come.
        """
        for item in items:
            if self:
                raise Stopped
            yield item

    def _receive(self, number: int, frame: object) -> None:
        self.received = True
        if not self.holding:
            raise SystemExit(EXIT_PREEMPTED)

    def __bool__(self) -> bool:
        return self.received


LOOK_SECONDS = 10.0  # between two looks, of the 120 s that a batch system gives


class Lookout:
    """Whether any rank has received a signal, asked by all ranks at the same steps.

    One process looks after each step, which costs nothing. Several have to agree, for which they wait for the device:
    the main process says at each look how many steps ahead the next one is, as many as take `LOOK_SECONDS`.
    """

    def __init__(self, accelerator: Accelerator, stop: StopSignal, step: int):
        self.accelerator, self.stop = accelerator, stop
        self.last, self.next, self.time = step, step, time.monotonic()

    def due(self, step: int) -> bool:
        return step >= self.next

    def look(self, step: int) -> bool:
        """True on every rank when a signal has come to one."""
        if self.accelerator.num_processes == 1:
            return bool(self.stop)
        seconds = (time.monotonic() - self.time) / max(1, step - self.last)
        # The ranks' clocks differ: the main process decides.
        ahead = max(1, int(LOOK_SECONDS / seconds)) if self.accelerator.is_main_process else 0
        said = torch.tensor([float(bool(self.stop)), float(ahead)], device=self.accelerator.device)
        received, ahead = self.accelerator.reduce(said).tolist()
        self.last, self.next, self.time = step, step + int(ahead), time.monotonic()
        return received > 0
