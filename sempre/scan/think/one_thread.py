"""Small matrices on one thread: several wait for each other longer than they compute."""

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager:
    """A context in which NumPy, SciPy and scikit-learn compute on one thread.

    `threadpool_limits` looks through all that the process has loaded at each call, which takes 9 ms, a tenth of the
    time in which a click is to be answered; here that is done once, at
    the first call, so that whoever calls has imported by then what is to be limited.
    """
    return _libraries().limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
