"""How well prototypes segment: by threshold, by the number of points, and from one micrograph to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated

import numpy as np
from tqdm import tqdm

from sempre.data.labels.labelled import LabelledSet
from sempre.data.labels.samples import PREFIX, by_sample
from sempre.embeddings.encoding.embedding_file import Embedding, Embeddings
from sempre.embeddings.encoding.extract import ExtractionOptions
from sempre.embeddings.segmentation.points import SIDES, Clicks, sample_points
from sempre.embeddings.segmentation.prototypes import Prototypes, Support, prototypes_of, support_of
from sempre.embeddings.segmentation.thresholds import RULES
from sempre.errors import InputError
from sempre.metrics import dice, hd95, iou, summarise_repeats
from sempre.ranges import Count, OneOf, Percent, PositiveOrZero, Seed

COUNTS = (1, 2, 5, 10, 20, 25, 50)  # of points, whose influence is measured
PERCENTS = (
    2,
    4,
    6,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    16,
    20,
    25,
    30,
    40,
    50,
)  # shares that are taken, whose influence is measured
KINDS = ("same micrograph", "same sample", "other sample")  # that prototypes are used on


@dataclass(kw_only=True)
class PrototypeOptions(ExtractionOptions):
    points: Count = 20  # of each sort that prototypes are made of
    margin: PositiveOrZero = 8.0  # px that points keep from the instances' boundaries
    prototypes: Count = 1  # of each sort
    weight: PositiveOrZero = 0.8  # of negative prototypes
    threshold: Annotated[str, OneOf(*RULES)] = "otsu"  # for instances, transfer and numbers of points
    percent: Percent = 10.0  # of a micrograph that threshold=top takes
    draws: Count = 3  # times that points are drawn for each number of them
    sample_pattern: str = PREFIX  # regular expression whose first group is the sample in a name
    seed: Seed = 0  # of points, prototypes, map and random weights


@dataclass(frozen=True)
class Micrographs:
    """Those at `indices` of a labelled set, and what the backbone made of them."""

    labelled: LabelledSet
    embeddings: Embeddings
    indices: np.ndarray

    def embedding(self, index: int) -> Embedding:
        return self.embeddings[self.labelled.sha256s[index]]

    def foreground(self, index: int) -> np.ndarray:
        """Where any instance is, bool `[H, W]`."""
        return self.labelled.read(index).foreground

    def clicks(self, index: int, options: PrototypeOptions, draw: int = 0) -> Clicks:
        """Points sampled on one micrograph, which depend on the seed, the draw and the micrograph alone."""
        key = options.seed, int(self.labelled.sha256s[index][:8], 16), draw
        return sample_points(self.foreground(index), max(options.points, *COUNTS), options.margin, key)

    def support(self, index: int, options: PrototypeOptions, draw: int = 0) -> Support:
        """The cells at `clicks`."""
        return support_of(self.embedding(index), self.clicks(index, options, draw))


def deal(supports: Sequence[Support], count: int, seed: int | Sequence[int]) -> Support:
    """`count` cells of each sort, dealt from the micrographs in turn, in an order that the seed draws."""
    order = np.random.default_rng(seed).permutation(len(supports))
    sides = []
    for side in SIDES:
        rounds = zip_longest(*(getattr(supports[position], side) for position in order))
        dealt = [cell for turn in rounds for cell in turn if cell is not None]
        if not dealt:
            raise InputError(f"no training micrograph has a {side} point: their labels are empty, or cover everything")
        sides.append(np.stack(dealt[:count]))
    return Support(*sides)


def first(support: Support, count: int) -> Support:
    """The first `count` cells of each sort."""
    return Support(support.positive[:count], support.negative[:count])


def model_of(support: Support, options: PrototypeOptions) -> Prototypes:
    return prototypes_of(support, options.prototypes, options.weight, options.seed)


def rule_scores(micrographs: Micrographs, index: int, model: Prototypes, percent: float) -> list[dict]:
    """Of one micrograph: the scores of its mask by each threshold."""
    truth, heat_map = micrographs.foreground(index), model.heat_map(micrographs.embedding(index))
    rows = []
    for rule in RULES:
        mask = model.mask(heat_map, rule, percent)
        scores = {"dice": dice(truth, mask), "iou": iou(truth, mask), "hd95_px": hd95(truth, mask)}
        rows.append({"name": micrographs.labelled.names[index], "rule": rule, **scores})
    return rows


def percent_sensitivity(micrographs: Micrographs, validation: np.ndarray, model: Prototypes) -> dict[str, dict]:
    """Mean scores for each of `PERCENTS` that threshold=top takes."""
    rows = {percent: [] for percent in PERCENTS}
    for index in tqdm(validation, desc="per cents", unit="image"):
        truth, heat_map = micrographs.foreground(index), model.heat_map(micrographs.embedding(index))
        for percent in PERCENTS:
            mask = model.mask(heat_map, "top", percent)
            rows[percent].append({"dice": dice(truth, mask), "iou": iou(truth, mask)})
    return {str(percent): means(of_percent) for percent, of_percent in rows.items()}


def point_sensitivity(
    micrographs: Micrographs, validation: np.ndarray, supports: Sequence[Support], options: PrototypeOptions
) -> dict[str, dict]:
    """Mean and deviation over draws of the mean scores, for each of `COUNTS` points of each sort."""
    models = {
        (count, draw): model_of(deal(supports, count, [options.seed, draw]), options)
        for count in COUNTS
        for draw in range(options.draws)
    }
    rows = {key: [] for key in models}
    for index in tqdm(validation, desc="numbers of points", unit="image"):
        truth, embedding = micrographs.foreground(index), micrographs.embedding(index)
        for key, model in models.items():
            mask = model.mask(model.heat_map(embedding), options.threshold, options.percent)
            rows[key].append({"dice": dice(truth, mask), "iou": iou(truth, mask)})
    of_draws = {key: means(of_draw) for key, of_draw in rows.items()}
    return {str(count): summarise_repeats([of_draws[count, draw] for draw in range(options.draws)]) for count in COUNTS}


def transfer(micrographs: Micrographs, options: PrototypeOptions, count: int) -> dict:
    """Dice `[N, N]` of prototypes of one micrograph (row) on another (column), and the means of the three `KINDS`.

    The micrographs are the first pair of each sample, then the second, until there are `count`.
    """
    names = micrographs.labelled.names
    samples = by_sample([names[index] for index in micrographs.indices], options.sample_pattern)
    turns = [
        (position // 2, number, micrographs.indices[index])
        for number, group in enumerate(samples.values())
        for position, index in enumerate(group)
    ]
    truths, models = {}, {}
    for _, number, index in sorted(turns):
        if len(models) == count:
            break
        truth = micrographs.foreground(index)
        if truth.any() and not truth.all():
            support = first(micrographs.support(index, options), options.points)
            truths[number, index], models[number, index] = truth, model_of(support, options)
    keys = sorted(models)
    matrix = np.empty((len(keys), len(keys)))
    for column, key in enumerate(tqdm(keys, desc="transfer", unit="image")):
        embedding = micrographs.embedding(key[1])
        for row, origin in enumerate(keys):
            mask = models[origin].mask(models[origin].heat_map(embedding), options.threshold, options.percent)
            matrix[row, column] = dice(truths[key], mask)
    numbers = np.array([number for number, _ in keys])
    itself, same = np.eye(len(keys), dtype=bool), numbers[:, None] == numbers
    kinds = dict(zip(KINDS, (itself, same & ~itself, ~same), strict=True))
    return {
        "names": [names[index] for _, index in keys],
        "samples": [list(samples)[number] for number in numbers],
        "dice": matrix.tolist(),
        "mean": {kind: float(matrix[of_kind].mean()) if of_kind.any() else None for kind, of_kind in kinds.items()},
    }


def means(rows: Sequence[Mapping]) -> dict[str, float]:
    """Means of the rows' numbers."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key not in ("name", "rule")}
