"""Signals that announce the end of a job: finish the step, save, leave."""

import signal

# sysexits.h: "temporary failure, the user is invited to retry"; a batch system may requeue on it.
EXIT_PREEMPTED = 75


class StopSignal:
    """True once SIGTERM or SIGUSR1 has arrived (Slurm's `--signal=B:USR1@120`, a preemption, `kill`)."""

    def __init__(self):
        self.received = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: object) -> None:
        self.received = True

    def __bool__(self) -> bool:
        return self.received
