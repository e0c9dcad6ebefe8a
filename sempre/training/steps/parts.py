"""A batch in parts that fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch

from sempre.errors import InputError


def split_batch(batch: dict, parts: int) -> Iterator[tuple[dict, float]]:
    """`batch`, a dict of tensors and lists over the same samples, in at most `parts` parts; with each its share.

    The parts differ by one sample at most, and none is empty.
    """
    samples = len(next(iter(batch.values())))
    parts = min(parts, samples)
    ends = [-(-samples * part // parts) for part in range(parts + 1)]  # the larger parts come first
    for start, end in pairwise(ends):
        yield {name: values[start:end] for name, values in batch.items()}, (end - start) / samples


def parts_of_all(samples: int, ranks: int, parts: int) -> int:
    """In how many parts every rank computes its share of a global batch of `samples`.

    It is the same number on all ranks, for with sharded weights each part is a collective call: `parts`, or as many as
    the smallest share has samples.

    Args:
        samples: of the global batch, at least one a rank.
        ranks: over which they are divided as evenly as can be.
        parts: that are asked for.
    """
    return min(parts, samples // ranks)


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
