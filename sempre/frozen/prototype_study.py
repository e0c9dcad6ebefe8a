"""How well prototypes segment: on their own micrograph, on others of its sample, and on other samples.

The protocols of `KINDS` in `sempre.frozen.prototype_study`. Of each sample one reference micrograph is
drawn, draw by draw, and its prototypes segment all other micrographs; besides, each micrograph is segmented by its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated

import numpy as np
from tqdm import tqdm

from sempre.data.labelled import LabelledSet
from sempre.data.splits import PREFIX, by_sample
from sempre.errors import InputError
from sempre.frozen.embedding_file import Embedding, Embeddings
from sempre.frozen.extract import ExtractionOptions
from sempre.frozen.prototypes import (
    RULES,
    SIDES,
    Clicks,
    Prototypes,
    Support,
    prototypes_of,
    sample_points,
    support_of,
)
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
    points: Count = 20  # number of points on particles, and on background
    margin: PositiveOrZero = 8.0  # smallest distance from points to instance outlines, px
    prototypes: Count = 1  # number of prototypes of particles, and of background
    weight: PositiveOrZero = 0.8  # weight of negative prototypes
    threshold: Annotated[str, OneOf(*RULES)] = "otsu"  # threshold in the scores of instances, transfer and points
    percent: Percent = 10.0  # share of a micrograph that threshold=top takes, %
    draws: Count = 3  # random draws for each number of points
    sample_pattern: str = PREFIX  # regular expression; its first group is the sample
    seed: Seed = 0  # random seed of points, prototypes, map and random weights


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


SCORES = ("dice", "iou", "hd95_px")

Samples = Mapping[str, Sequence[int]]  # positions in the labelled set of each sample's micrographs


def scorable(micrographs: Micrographs) -> set[int]:
    """Those that show both foreground and background: the others have no points of their own."""
    shown = {index: micrographs.foreground(index) for index in micrographs.indices}
    return {index for index, mask in shown.items() if mask.any() and not mask.all()}


def own_model(micrographs: Micrographs, index: int, options: PrototypeOptions, draw: int) -> Prototypes:
    """Prototypes of the points that a draw gives one micrograph."""
    return model_of(first(micrographs.support(index, options, draw), options.points), options)


def references(samples: Samples, options: PrototypeOptions, draw: int) -> dict[str, int]:
    """Of each sample the micrograph whose prototypes a draw takes to other ones."""
    random = np.random.default_rng((options.seed, draw))
    return {sample: int(random.choice(indices)) for sample, indices in samples.items()}


def protocol_rows(micrographs: Micrographs, samples: Samples, options: PrototypeOptions) -> list[dict]:
    """The scores of each micrograph by each protocol, reference and draw."""
    names = micrographs.labelled.names
    drawn = [references(samples, options, draw) for draw in range(options.draws)]
    models = {
        (draw, index): own_model(micrographs, index, options, draw)
        for draw, of_samples in enumerate(drawn)
        for index in of_samples.values()
    }
    rows = []
    targets = [(sample, index) for sample, indices in samples.items() for index in indices]
    for sample, index in tqdm(targets, desc="segmenting", unit="image"):
        truth, embedding = micrographs.foreground(index), micrographs.embedding(index)
        for draw, of_samples in enumerate(drawn):
            used = {(sample, index): own_model(micrographs, index, options, draw)}
            used |= {(other, origin): models[draw, origin] for other, origin in of_samples.items()}
            for (origin_sample, origin), model in used.items():
                mask = model.mask(model.heat_map(embedding), options.threshold, options.percent)
                scores = (dice(truth, mask), iou(truth, mask), hd95(truth, mask))
                place = {"name": names[index], "sample": sample, "draw": draw}
                place |= {"kind": kind_of(origin_sample == sample, origin == index)}
                place |= {"reference": names[origin], "reference_sample": origin_sample}
                rows.append(place | dict(zip(SCORES, scores, strict=True)))
    return rows


def kind_of(same_sample: bool, itself: bool) -> str:
    return KINDS[0] if itself else KINDS[1] if same_sample else KINDS[2]


def spread(
    rows: Sequence[dict], of: Sequence[str] = ("name", "reference_sample")
) -> dict[str, dict[str, float]] | None:
    """Of each score the mean, its deviation over micrographs and that over draws; None of no rows.

    A micrograph's score is its mean over the rows that agree in `of`, so over draws, for each sample that references
    are from; a draw's is its mean over micrographs. Deviations are of the sample (n - 1), 0 of one.
    """
    if not rows:
        return None
    over = {"micrographs": of, "draws": ("draw",)}
    deviations = {}
    for unit, keys in over.items():
        groups: dict[tuple, list[dict]] = {}
        for row in rows:
            groups.setdefault(tuple(row[key] for key in keys), []).append({score: row[score] for score in SCORES})
        deviations[unit] = summarise_repeats([means(group) for group in groups.values()])
    return {
        score: {
            "mean": deviations["micrographs"][score]["mean"],
            "std_micrographs": deviations["micrographs"][score]["std"],
            "std_draws": deviations["draws"][score]["std"],
        }
        for score in SCORES
    }


def protocol_summary(rows: Sequence[dict], samples: Samples, groups: Mapping[str, str] | None = None) -> dict:
    """`protocols`, by kind; the same by sample, as `samples`, and by the group of the segmented micrograph, which
    `groups` tells by name, as `groups`; and the `matrix` from sample (outer key) to sample.

    The matrix leaves micrographs that are their own reference out, so its diagonal is the second of `KINDS`.
    """
    of_others = [row for row in rows if row["kind"] != KINDS[0]]
    return {
        "protocols": _by_kind(rows),
        "samples": {sample: _by_kind([row for row in rows if row["sample"] == sample]) for sample in samples},
        "groups": {group: _by_kind(of_group) for group, of_group in _rows_of_groups(rows, groups or {}).items()},
        "matrix": {
            origin: {
                sample: spread(
                    [row for row in of_others if (row["reference_sample"], row["sample"]) == (origin, sample)]
                )
                for sample in samples
            }
            for origin in samples
        },
    }


def sweeps(micrographs: Micrographs, samples: Samples, options: PrototypeOptions) -> dict:
    """Each micrograph by its own points: scores by their number, and by the per cent that threshold=top takes.

    Returns:
        `points`, for each of `COUNTS` the mean and deviation over draws; `percent`, for each of `PERCENTS` the mean,
        and `percent_by_sample`.
    """
    by_count = {(count, draw): [] for count in COUNTS for draw in range(options.draws)}
    by_percent = {sample: {percent: [] for percent in PERCENTS} for sample in samples}
    targets = [(sample, index) for sample, indices in samples.items() for index in indices]
    for sample, index in tqdm(targets, desc="sweeping", unit="image"):
        truth, embedding = micrographs.foreground(index), micrographs.embedding(index)
        for draw in range(options.draws):
            support = micrographs.support(index, options, draw)
            for count in COUNTS:
                model = model_of(first(support, count), options)
                mask = model.mask(model.heat_map(embedding), options.threshold, options.percent)
                by_count[count, draw].append({"dice": dice(truth, mask), "iou": iou(truth, mask)})
            model = model_of(first(support, options.points), options)
            heat_map = model.heat_map(embedding)
            for percent in PERCENTS:
                mask = model.mask(heat_map, "top", percent)
                by_percent[sample][percent].append({"dice": dice(truth, mask), "iou": iou(truth, mask)})
    everywhere = {
        percent: [row for of_sample in by_percent.values() for row in of_sample[percent]] for percent in PERCENTS
    }
    return {
        "points": {
            str(count): summarise_repeats([means(by_count[count, draw]) for draw in range(options.draws)])
            for count in COUNTS
        },
        "percent": {str(percent): means(rows) for percent, rows in everywhere.items()},
        "percent_by_sample": {
            sample: {str(percent): means(rows) for percent, rows in of_sample.items()}
            for sample, of_sample in by_percent.items()
        },
    }


def _rows_of_groups(rows: Sequence[dict], groups: Mapping[str, str]) -> dict[str, list[dict]]:
    found = sorted({groups[row["name"]] for row in rows}) if groups else []
    return {group: [row for row in rows if groups[row["name"]] == group] for group in found}


def _by_kind(rows: Sequence[dict]) -> dict[str, dict | None]:
    return {kind: spread([row for row in rows if row["kind"] == kind]) for kind in KINDS}
