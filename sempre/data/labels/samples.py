"""Which micrographs show one sample, which must not be on both sides of a comparison; and seeded subsets of them."""

import re
from collections.abc import Sequence

import numpy as np

from sempre.data.crops import PATCH, generator
from sempre.errors import InputError

PREFIX = r"^(.*?)[ _-]*\d*$"  # the name up to its last number


def sample_of(name: str, pattern: str = PREFIX) -> str:
    """The sample that a micrograph's name (its stem) tells: the pattern's first group, else the whole match.

    By default the name without its last number: `steel_a_03` and `steel_a_17` show `steel_a`; a name that is a number
    is a sample of its own.

    Raises:
        InputError: for a pattern that is no regular expression, or does not match the name.
    """
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise InputError(f"the pattern '{pattern}' is no regular expression: {error}") from error
    if not found:
        raise InputError(f"the pattern '{pattern}' does not match the name {name}: it must tell every sample")
    return (found[1] if found.groups() else found[0]) or name


def by_sample(names: Sequence[str], pattern: str = PREFIX) -> dict[str, list[int]]:
    """Positions in `names` of each sample's micrographs; samples in the order in which they are met."""
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        groups.setdefault(sample_of(name, pattern), []).append(position)
    return groups


def seeded_subset(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the indices, drawn by `seed` and sorted; all of them for a count of 0 or too many."""
    if not count or count >= len(indices):
        return indices
    return np.sort(generator(seed, PATCH).permutation(indices)[:count])
