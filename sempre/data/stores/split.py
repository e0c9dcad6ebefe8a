"""Which images validate: a rule about a file's contents, never about the order or the number of files."""

import hashlib
from collections.abc import Iterable
from math import ceil

import numpy as np


def is_validation(sha256: str, fraction: float = 0.2, seed: int = 0) -> bool:
    """Whether the image file with this SHA-256 (hexadecimal) belongs to the validation side.

    The first 64 bits of sha256("<seed>:<sha256>"), read as a fraction of 2^64, lie below `fraction` for a validation
    image. So a file stays on its side however many files are added, copies of a file share its side, and with the
    same seed the pretraining store and the labelled set agree: an image that validates the fine-tuning is held out
    of the pretraining too. (A micrograph saved again in another format is another file.)
    """
    return _draw(sha256, seed) < fraction * 2**64


def split(sha256s: Iterable[str], fraction: float = 0.2, seed: int = 0) -> np.ndarray:
    """`is_validation` of many files: bool `[N]`, True = validation.

    With two or more distinct files neither side is left empty: where the rule would leave one so, the file of lowest
    draw goes to validation, or that of highest draw to training (such tiny sets are the only ones whose sides can
    change when files are added). A `fraction` of 0 or 1 is taken at its word.
    """
    return _lowest(_draws(sha256s, seed), fraction)


def split_in_three(
    sha256s: Iterable[str], validation_fraction: float, test_fraction: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Which of many files validate and which are for the test, both bool `[N]`; the others are trained on.

    The test has the lowest draws: it is what `split` holds out by `test_fraction` alone, of a pretraining store too,
    and validation is what comes next. Of a handful of files one side may get none.
    """
    draws = _draws(sha256s, seed)
    test = _lowest(draws, test_fraction)
    validation = np.zeros(len(draws), bool)
    if validation_fraction > 0:
        validation[~test] = _lowest(draws[~test], validation_fraction + test_fraction)
    return validation, test


def _lowest(draws: np.ndarray, fraction: float) -> np.ndarray:
    """Which of `draws`, uint64 `[N]`, lie below the fraction of their range, neither all nor none of them."""
    bound = ceil(fraction * 2**64)
    below = draws < np.uint64(bound) if bound < 2**64 else np.ones(len(draws), bool)
    if 0 < fraction < 1 and len(draws) and draws.min() != draws.max():
        if not below.any():
            below = draws == draws.min()
        elif below.all():
            below = draws != draws.max()
    return below


def _draws(sha256s: Iterable[str], seed: int) -> np.ndarray:
    return np.fromiter((_draw(sha256, seed) for sha256 in sha256s), np.uint64)


def _draw(sha256: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{sha256}".encode()).digest()[:8], "big")
