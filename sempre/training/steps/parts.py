"""A batch in parts that fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sempre.errors import InputError


def split_batch(batch: dict, parts: int) -> Iterator[tuple[dict, float]]:
    """`batch`, a dict of tensors and lists over the same samples, in at most `parts` parts; with each its share."""
    samples = len(next(iter(batch.values())))
    size = -(-samples // parts)
    for start in range(0, samples, size):
        part = {name: values[start : start + size] for name, values in batch.items()}
        yield part, len(next(iter(part.values()))) / samples


@contextmanager
def enough_memory(accumulation: int) -> Iterator[None]:
    """What is computed inside is a batch in `accumulation` parts.

    Raises:
        InputError: when the GPU's memory does not suffice for it.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            f"the GPU's memory does not suffice for accumulation={accumulation}: "
            f"start the same command again with accumulation={2 * accumulation}"
        ) from error
