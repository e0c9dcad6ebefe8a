"""Signals that announce the end of a job: save what there is to save, and leave."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

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
