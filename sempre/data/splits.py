"""Which micrographs train, validate and test: by contents, by sample and by file."""

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from sempre.data.samplers import PATCH, generator
from sempre.errors import InputError
from sempre.files import read_json

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


def is_validation(sha256: str, fraction: float = 0.2, seed: int = 0) -> bool:
    """Whether the image file with this SHA-256 (hexadecimal) belongs to the validation split.

    The first 64 bits of sha256("<seed>:<sha256>"), read as a fraction of 2^64, lie below `fraction` for a validation
    image. So a file stays on its split however many files are added, copies of a file share its split, and with the
    same seed the pretraining store and the labelled set agree: an image that validates the fine-tuning is held out
    of the pretraining too. (A micrograph saved again in another format is another file.)
    """
    return _draw(sha256, seed) < fraction * 2**64


def split(sha256s: Iterable[str], fraction: float = 0.2, seed: int = 0) -> np.ndarray:
    """`is_validation` of many files: bool `[N]`, True = validation.

    With two or more distinct files neither split is left empty: where the rule would leave one so, the file of lowest
    draw goes to validation, or that of highest draw to training (such tiny sets are the only ones whose splits can
    change when files are added). A `fraction` of 0 or 1 is taken at its word.
    """
    return _lowest(_draws(sha256s, seed), fraction)


def split_in_three(
    sha256s: Iterable[str], validation_fraction: float, test_fraction: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Which of many files validate and which are for the test, both bool `[N]`; the others are trained on.

    The test has the lowest draws: it is what `split` holds out by `test_fraction` alone, of a pretraining store too,
    and validation is what comes next. Of a handful of files one split may get none.
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


SPLITS = ("train", "validation", "test")
WANTED = "it must be JSON with train and validation, or with train, validation and test, or rows name,split"


@dataclass(frozen=True)
class Splits:
    """Positions in a labelled set, sorted, each `[N]`.

    Weights are fitted to `training`, epochs and thresholds chosen on `choosing`, and `held_out` is scored, once, with
    what was chosen. A set of two splits has no `choosing`: choices are then made on a part of `training`.
    """

    training: np.ndarray
    choosing: np.ndarray
    held_out: np.ndarray


def make_splits(positions: Mapping[str, Iterable[int]]) -> Splits:
    """Splits from the positions of "train", "validation" and "test": validation is scored where there is no test."""
    train, validation, test = (np.array(sorted(positions.get(split, ())), dtype=int) for split in SPLITS)
    return Splits(train, validation, test) if len(test) else Splits(train, test, validation)


def read_split_file(path: str | Path) -> dict[str, list[str]]:
    """The names of each split, of `SPLITS`.

    JSON `{"train": [names], "validation": [names], "test": [names]}` without validation or test, or CSV rows
    `name,split`.

    Raises:
        InputError: for a file that is neither, or names another split.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".json":
            content = read_json(path)
            splits = {split: [str(name) for name in content[split]] for split in SPLITS if split in content}
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = [(name.strip(), split.strip()) for name, split in (row for row in csv.reader(file) if row)]
            if rows and rows[0][1] not in SPLITS:
                rows = rows[1:]  # the columns' names
            splits = {
                split: [name for name, of_row in rows if of_row == split] for split in {*SPLITS, *(s for _, s in rows)}
            }
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no split: {WANTED}") from error
    if "train" not in splits or len(splits) < 2:
        raise InputError(f"{path} is no split: {WANTED}")
    if other := sorted(set(splits) - set(SPLITS)):
        raise InputError(f"{path} has the split '{other[0]}': splits are {', '.join(SPLITS)}")
    if not any(splits.values()):
        raise InputError(f"{path} has no rows name,train or name,validation")
    return splits
