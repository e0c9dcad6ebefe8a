"""Who learns from whom: what a network is fitted to, what tells it when to stop, and what is held out."""

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from sempre.data.labelled import LabelledSet
from sempre.data.samplers import ORDER, generator
from sempre.data.splits import PREFIX, Splits, by_sample, seeded_subset
from sempre.errors import InputError
from sempre.ranges import CountOrZero, OneOf, PositiveShare, Seed, Share, check_ranges

STOPPING_SPLITS = ("part", "held_out", "none")
Stopping = Annotated[str, OneOf(*STOPPING_SPLITS)]
PROTOCOLS = ("split", "leave_one_sample_out")
HeldOut = Annotated[str, OneOf(*PROTOCOLS)]
NOBODY = np.zeros(0, dtype=int)
STOPPING = 5  # one in so many training micrographs decides when to stop, and the threshold


class SplitOptions(Protocol):
    """What is asked of a recipe's options: the labelled set, and how it is divided."""

    data: str
    split_file: str
    validation_fraction: float
    test_fraction: float
    split_seed: int


@dataclass(kw_only=True)
class FoldOptions:
    data: str = "???"  # folder of labelled micrographs
    protocol: HeldOut = "split"  # split: hold out one split; else each sample in turn
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that the seeded split holds out
    test_fraction: Share = 0.0  # share of images for the test; validation then chooses epoch and threshold
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    sample_pattern: str = PREFIX  # regular expression; its first group is the sample
    folds: CountOrZero = 0  # number of samples, drawn at random, to hold out in turn; 0: all
    label_share: PositiveShare = 1.0  # share of the training micrographs to use; smaller shares are subsets
    label_count: CountOrZero = 0  # or: number of training micrographs to use; 0: by label_share=
    stopping: Stopping = "part"  # micrographs that decide when to stop: a fifth of training, held out, none
    seed: Seed = 0  # of which micrographs are the labelled share, and which samples are left out


@dataclass(frozen=True)
class Fold:
    """Positions in the labelled set of what the network is fitted to, what stops it, and what is held out."""

    name: str
    fitted: list[int]
    stopping: list[int]
    held_out: list[int]


def divide(labelled: LabelledSet, options: SplitOptions, sample: str = "") -> Splits:
    """The splits of a labelled set, of which one is held out to be scored.

    Args:
        sample: keeps the micrographs of one sample together in a seeded split, see `LabelledSet.splits`.

    Raises:
        InputError: for a set that cannot be divided so, and where nothing is held out.
    """
    splits = labelled.splits(
        options.validation_fraction, options.split_seed, options.split_file or None, options.test_fraction, sample
    )
    if not len(splits.held_out):
        raise InputError(f"no micrograph of {options.data} is held out: raise validation_fraction or add images")
    return splits


def make_folds(labelled: LabelledSet, options: FoldOptions) -> list[Fold]:
    """The split as one fold, or one of each sample that is left out.

    Raises:
        InputError: for an option that cannot be, or a set that cannot be divided so.
    """
    check_ranges(options)
    if options.protocol == "split":
        splits = divide(labelled, options)
        if len(splits.choosing):
            return [make_fold("test", splits.training, splits.held_out, options, splits.choosing)]
        return [make_fold("validation", splits.training, splits.held_out, options)]
    samples = by_sample(labelled.names, options.sample_pattern)
    if len(samples) < 2:
        raise InputError(
            f"all {len(labelled)} micrographs of {options.data} show the sample {next(iter(samples))}: "
            "give another sample_pattern, or take protocol=split"
        )
    left_out = seeded_subset(np.arange(len(samples)), options.folds, options.seed)
    everything = np.arange(len(labelled))
    return [
        make_fold(name, np.setdiff1d(everything, held_out), np.array(held_out), options)
        for position, (name, held_out) in enumerate(samples.items())
        if position in left_out
    ]


def make_fold(
    name: str, training: np.ndarray, held_out: np.ndarray, options: FoldOptions, choosing: np.ndarray | None = None
) -> Fold:
    """A fold with the labelled share of its training micrographs: the first of a seeded order, so shares are nested.

    Without a split to choose on, `choosing`, what `stopping` names stops the training: a fifth of the share, what is
    held out, whose scores then flatter the network, or nothing.

    Raises:
        InputError: for fewer training micrographs than are asked for, or too few to hold any back.
    """
    order = generator(options.seed, ORDER).permutation(training)
    if options.label_count > len(order):
        raise InputError(
            f"label_count={options.label_count} is more than the {len(order)} training micrographs of {name}: take "
            "fewer, or a smaller validation_fraction"
        )
    used = order[: options.label_count or max(2, round(options.label_share * len(order)))].tolist()
    if options.stopping != "part":
        stopping = held_out.tolist() if options.stopping == "held_out" else []
        return Fold(name, used, stopping, held_out.tolist())
    if choosing is not None:
        return Fold(name, used, choosing.tolist(), held_out.tolist())
    if len(used) < 2:
        raise InputError(f"the training split has {len(used)} micrographs: two are the least, one decides when to stop")
    fitted = [index for position, index in enumerate(used) if position % STOPPING]
    return Fold(name, fitted, used[::STOPPING], held_out.tolist())


def parts_of_training(
    training: np.ndarray, count: int, seed: int, choosing: np.ndarray = NOBODY
) -> tuple[np.ndarray, np.ndarray]:
    """Of the training micrographs those that weights are fitted to, and those that thresholds are chosen on.

    The latter are a tenth; fewer than twenty micrographs are all fitted to, and none is left to choose on. With a split
    to choose on, `choosing`, all are fitted to.

    Args:
        training: positions in a labelled set, `[N]`.
        count: so many of them are drawn and no others are used; 0 uses all.
        seed: of the draw.
        choosing: positions of the split of a set of three, `sempre.data.splits.Splits`.

    Returns:
        Both splits' positions, sorted.
    """
    chosen = np.random.default_rng(seed).permutation(training)[: count or None]
    if len(choosing):
        return np.sort(chosen), choosing
    kept_back = len(chosen) // 10 if len(chosen) >= 20 else 0
    return np.sort(chosen[kept_back:]), np.sort(chosen[:kept_back])


def fitted_and_choosing(splits: Splits, count: int, seed: int, chosen: bool) -> tuple[np.ndarray, np.ndarray]:
    """The training micrographs that weights are fitted to, and those that a threshold is chosen on, as above.

    They are the same ones where too few are there to hold any back, or where the threshold was `chosen` beforehand and
    none is needed.
    """
    fitted, choosing = parts_of_training(splits.training, count, seed, splits.choosing)
    if not len(splits.choosing) and (chosen or not len(choosing)):
        fitted = choosing = np.union1d(fitted, choosing)
    return fitted, choosing
