"""What frozen embeddings are asked to tell apart, and how well they do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from omegaconf import MISSING
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sempre.data.groups import RuleOrAuto
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import PATCH, generator
from sempre.data.sources import FolderSource, open_source
from sempre.data.splits import seeded_subset, split
from sempre.errors import InputError
from sempre.frozen.embedding_file import Embeddings
from sempre.frozen.encoder import Encoder, open_encoder
from sempre.frozen.extract import ExtractionOptions, extract, file_percentiles
from sempre.frozen.pooling import pool
from sempre.ranges import Count, CountOrZero, Seed, Several, Share


def nearest(bank: np.ndarray, queries: np.ndarray, k: int = 10) -> np.ndarray:
    """Positions `[M, k]` in `bank` `[N, D]` of each query's `[M, D]` nearest embeddings by cosine, nearest first.

    Raises:
        InputError: for a k below 1 or above N.
    """
    if not 1 <= k <= len(bank):
        raise InputError(f"k={k} neighbours cannot be found among {len(bank)} embeddings: take k from 1 to {len(bank)}")
    search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank)
    return search.kneighbors(queries, return_distance=False)


def retrieval_accuracy(neighbour_labels: np.ndarray, labels: np.ndarray) -> float:
    """Mean share of the retrieved neighbours `[M, k]` that have the query's label `[M]`, each class weighing the same.

    With every label drawn at random from equally many it is 1 over the number of classes; nan without queries.
    """
    return _balanced((neighbour_labels == labels[:, None]).mean(axis=1), labels)


def vote(neighbour_labels: np.ndarray) -> np.ndarray:
    """The most frequent label `[M]` of the neighbours `[M, k]`; of equally frequent ones the lowest."""
    names, positions = np.unique(neighbour_labels, return_inverse=True)
    positions = positions.reshape(neighbour_labels.shape)
    counts = np.stack([(positions == label).sum(axis=1) for label in range(len(names))], axis=1)
    return names[counts.argmax(axis=1)]


def balanced_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the share that is told right; nan without labels."""
    return _balanced((predicted == labels).astype(float), labels)


def linear_probe(seed: int = 0) -> Pipeline:
    """Logistic regression on standardised embeddings, classes weighing the same: `fit` and `predict` as scikit-learn's.

    Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016.
    """
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, class_weight="balanced", random_state=seed))


def separation(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """Variance between the classes' means over variance within the classes, of `[N, D]` and labels `[N]`.

    nan with fewer than two classes; infinite where all embeddings of a class are one point.
    """
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        return float("nan")
    means = np.stack([embeddings[labels == name].mean(axis=0) for name in names])
    total = embeddings.mean(axis=0)
    between = (counts * ((means - total) ** 2).sum(axis=1)).sum()
    within = ((embeddings - means[np.searchsorted(names, labels)]) ** 2).sum()
    return float(between / within) if within > 0 else float("inf")


def _balanced(values: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the labels of the mean value of each."""
    if not len(labels):
        return float("nan")
    return float(np.mean([values[labels == label].mean() for label in np.unique(labels)]))


@dataclass(kw_only=True)
class TaskOptions(ExtractionOptions):
    backbones: Several = MISSING  # backbone/ folders, official .pth files, timm's names, random:<timm's>, intensity
    data: str = ""  # labelled micrographs: classify cells as particle or background
    images: str = ""  # store or folder of images with labels: classify images
    labels_from: RuleOrAuto = "auto"  # labels of images=; auto: the store's own, or sub-folder names
    labels_csv: str = ""  # file of rows file,label for labels_from=csv
    pooling: str = "top-32"  # how an image's cells become one vector: top-<k>, mean or class
    patches: Count = 200  # cells drawn from each labelled micrograph, half of them on particles if possible
    micrographs: CountOrZero = 0  # number of micrographs in each split; 0: all
    split_file: str = ""  # of data=: JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that are classified; the others are the neighbours
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    seed: Seed = 0  # random seed of the drawn cells and of random weights


@dataclass(frozen=True)
class Task:
    """Embeddings to learn from, `bank` `[N, C]` with labels `[N]`, and others to ask about, `queries` `[M, C]`."""

    name: str  # "cells" or "images"
    bank: np.ndarray
    bank_labels: np.ndarray
    queries: np.ndarray
    query_labels: np.ndarray


def score_backbones(
    options: TaskOptions, score: Callable[[Task], Mapping[str, float]]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """What `score` says of each backbone's tasks, `{backbone: {"<task>: <figure>": value}}`, and where it is read out.

    Raises:
        InputError: when there are no tasks, or a split has no cell or label to tell apart.
    """
    encoders = [open_encoder(backbone, layer=options.layer, seed=options.seed) for backbone in options.backbones]
    rows = {
        encoder.name: {
            f"{task.name}: {figure}": value
            for task in make_tasks(encoder, options)
            for figure, value in score(task).items()
        }
        for encoder in encoders
    }
    return rows, {encoder.name: encoder.read_out for encoder in encoders}


def make_tasks(encoder: Encoder, options: TaskOptions) -> list[Task]:
    """The tasks that `options` name, embedded by `encoder`; raises what `score_backbones` raises."""
    tasks = []
    if options.data:
        tasks.append(cell_task(encoder, options))
    if options.images:
        tasks.append(image_task(encoder, options))
    if not tasks:
        raise InputError("there is nothing to tell apart: give data= labelled micrographs, or images= with labels")
    for task in tasks:
        if not len(task.queries) or len(np.unique(task.bank_labels)) < 2:
            raise InputError(
                f"the {task.name} have {len(np.unique(task.bank_labels))} labels to learn and {len(task.queries)} to "
                "ask about: two and one are the least"
            )
    return tasks


def cell_task(encoder: Encoder, options: TaskOptions) -> Task:
    """Particle (1) or background (0) of cells drawn from both splits."""
    percentiles, plain = file_percentiles(options, encoder), options.plain_percentiles
    labelled = LabelledSet(options.data, percentiles=percentiles, components=None, plain=plain)
    sides = labelled.split(options.validation_fraction, options.split_seed, options.split_file or None)
    sides = [seeded_subset(side, options.micrographs, options.seed) for side in sides]
    source = labelled_source(labelled, np.concatenate(sides))
    with extract(source, encoder, options) as embeddings:
        (bank, bank_labels), (queries, query_labels) = (
            draw_cells(embeddings, labelled, side, options.patches, options.seed) for side in sides
        )
    return Task("cells", bank, bank_labels, queries, query_labels)


def image_task(encoder: Encoder, options: TaskOptions) -> Task:
    """Labels of images, each a pooled vector; those without a label are left out."""
    percentiles = file_percentiles(options, encoder)
    source = open_source(
        options.images, percentiles, options.labels_from, options.labels_csv, plain=options.plain_percentiles
    )
    with extract(source, encoder, options) as embeddings:
        vectors = np.stack([pool(embeddings[sha256], options.pooling) for sha256 in source.sha256s])
    asked = split(source.sha256s, options.validation_fraction, options.split_seed)
    known = source.labels >= 0
    bank, queries = known & ~asked, known & asked
    return Task("images", vectors[bank], source.labels[bank], vectors[queries], source.labels[queries])


def labelled_source(labelled: LabelledSet, indices: np.ndarray, colour: bool = False) -> FolderSource:
    """The micrographs at `indices` of a labelled set, to be embedded."""
    files = [labelled.images[index] for index in indices]
    return FolderSource(labelled.folder, labelled.percentiles, files, colour=colour, plain=labelled.plain)


def draw_cells(
    embeddings: Embeddings, labelled: LabelledSet, indices: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Up to `count` cells of each micrograph, `[N, C]`, and whether particles cover at least half of each, int `[N]`.

    Half of the cells of a micrograph are of particles and half of background, or as many as there are. Which are drawn
    depends on the seed and the micrograph alone.
    """
    vectors, labels = [np.zeros((0, embeddings.width), np.float32)], [np.zeros(0, int)]
    for index in indices:
        sha256 = labelled.sha256s[index]
        embedding = embeddings[sha256]
        covered = embedding.grid.to_cells(labelled.read(index).foreground).ravel() >= 0.5
        draws = generator(seed, int(sha256[:16], 16), PATCH)
        for label in (0, 1):
            chosen = draws.permutation(np.flatnonzero(covered == label))[: count // 2]
            vectors.append(embedding.cells.reshape(-1, embeddings.width)[chosen])
            labels.append(np.full(len(chosen), label))
    return np.concatenate(vectors), np.concatenate(labels)
