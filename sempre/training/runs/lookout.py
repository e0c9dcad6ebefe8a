"""When the ranks look for a signal."""

import time

import torch
from accelerate import Accelerator

from sempre.training.runs.preemption import StopSignal

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
