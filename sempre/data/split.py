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
    draws = np.fromiter((_draw(sha256, seed) for sha256 in sha256s), np.uint64)
    bound = ceil(fraction * 2**64)
    validation = draws < np.uint64(bound) if bound < 2**64 else np.ones(len(draws), bool)
    if 0 < fraction < 1 and len(draws) and draws.min() != draws.max():
        if not validation.any():
            validation = draws == draws.min()
        elif validation.all():
            validation = draws != draws.max()
    return validation


def _draw(sha256: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{sha256}".encode()).digest()[:8], "big")
