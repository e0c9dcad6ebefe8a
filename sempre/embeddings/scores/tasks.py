"""What frozen embeddings are asked to tell apart: particle from background cell by cell, or labels image by image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from omegaconf import MISSING

from sempre.data.crops import PATCH, generator
from sempre.data.feeding.sources import FolderSource, open_source
from sempre.data.label_rule import RuleOrAuto
from sempre.data.labels.labelled import LabelledSet
from sempre.data.labels.samples import seeded_subset
from sempre.data.stores.split import split
from sempre.embeddings.encoding.embedding_file import Embeddings
from sempre.embeddings.encoding.encoder import Encoder, open_encoder
from sempre.embeddings.encoding.extract import ExtractionOptions, extract, file_percentiles
from sempre.embeddings.encoding.pooling import pool
from sempre.errors import InputError
from sempre.ranges import Count, CountOrZero, Seed, Several, Share


@dataclass(kw_only=True)
class TaskOptions(ExtractionOptions):
    backbones: Several = MISSING  # backbone/ folders, official .pth files, timm's names, random:<timm's>, intensity
    data: str = ""  # labelled micrographs, to tell cells of particles from background
    images: str = ""  # store or folder whose images have labels, to tell those apart
    labels_from: RuleOrAuto = "auto"  # of images; auto: a store's own, a folder's subfolders
    labels_csv: str = ""  # file of rows file,label for labels_from=csv
    pooling: str = "top-32"  # of an image's cells into its vector: top-<k>, mean or class
    patches: Count = 200  # cells drawn from each labelled micrograph, half of them of particles where there are as many
    micrographs: CountOrZero = 0  # so many of data's micrographs on each side of the split; 0 takes all
    split_file: str = ""  # of data: JSON with "train", "validation" and perhaps "test" stems; otherwise a seeded split
    validation_fraction: Share = 0.2  # share of the images that are asked about; the others answer
    split_seed: Seed = 0  # another seed, another split
    seed: Seed = 0  # of the cells that are drawn, and of random backbones


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
        InputError: when there are no tasks, or a side of the split has no cell or label to tell apart.
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
    """Particle (1) or background (0) of cells drawn from both sides of a labelled set's split."""
    labelled = LabelledSet(options.data, percentiles=file_percentiles(options, encoder), components=None)
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
    source = open_source(options.images, percentiles, options.labels_from, options.labels_csv)
    with extract(source, encoder, options) as embeddings:
        vectors = np.stack([pool(embeddings[sha256], options.pooling) for sha256 in source.sha256s])
    asked = split(source.sha256s, options.validation_fraction, options.split_seed)
    known = source.labels >= 0
    bank, queries = known & ~asked, known & asked
    return Task("images", vectors[bank], source.labels[bank], vectors[queries], source.labels[queries])


def labelled_source(labelled: LabelledSet, indices: np.ndarray, colour: bool = False) -> FolderSource:
    """The micrographs at `indices` of a labelled set, to be embedded."""
    files = [labelled.images[index] for index in indices]
    return FolderSource(labelled.folder, labelled.percentiles, files, colour=colour)


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
