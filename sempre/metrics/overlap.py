"""The overlap of true and predicted instances: counted once, in one pass, and every criterion is derived from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from sempre.errors import InputError


@dataclass(frozen=True)
class Overlap:
    """Areas of T true and P predicted instances, and the pairs of them that share pixels.

    `true_areas [T]` and `predicted_areas [P]` in px; pair k of the K pairs is true instance `true[k]` and predicted
    instance `predicted[k]` (positions, not ids), which share `intersections[k]` px.
    """

    true_areas: np.ndarray
    predicted_areas: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    intersections: np.ndarray

    @cached_property
    def unions(self) -> np.ndarray:
        """Union of each pair in px, `[K]`."""
        return self.true_areas[self.true] + self.predicted_areas[self.predicted] - self.intersections

    @cached_property
    def ious(self) -> np.ndarray:
        """Intersection over union of each pair, `[K]`."""
        return self.intersections / self.unions

    @cached_property
    def assignment(self) -> np.ndarray:
        """The pairs `[M]` (positions among the K) of the one-to-one assignment with the largest sum of IoU.

        Kuhn's method is cubic, so it is run on each cluster of instances that overlap, where it is small.
        """
        trues, predictions = len(self.true_areas), len(self.predicted_areas)
        if not len(self.ious):
            return np.zeros(0, dtype=np.int64)
        edges = np.ones(len(self.true)), (self.true, self.predicted + trues)
        graph = coo_array(edges, shape=(trues + predictions,) * 2)
        clusters = connected_components(graph, directed=False)[1][self.true]
        order = np.argsort(clusters, kind="stable")
        starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
        chosen = []
        for pairs in np.split(order, starts[1:]):
            if len(pairs) == 1:
                chosen.append(pairs[0])
                continue
            rows, row = np.unique(self.true[pairs], return_inverse=True)
            columns, column = np.unique(self.predicted[pairs], return_inverse=True)
            pair_at = np.full((len(rows), len(columns)), -1)
            iou_at = np.zeros((len(rows), len(columns)))
            pair_at[row, column], iou_at[row, column] = pairs, self.ious[pairs]
            assigned = pair_at[linear_sum_assignment(iou_at, maximize=True)]
            chosen.extend(assigned[assigned >= 0])
        return np.array(sorted(chosen), dtype=np.int64)


def label_overlap(true: np.ndarray, predicted: np.ndarray) -> Overlap:
    """The overlap of two label images `[H, W]` (0 = background, ids need not be contiguous), in one pass.

    Raises:
        InputError: when their sizes differ.
    """
    if true.shape != predicted.shape:
        raise InputError(f"the true labels are {true.shape} px, the predicted {predicted.shape}: they must be equal")
    true, trues = _contiguous(true)
    predicted, predictions = _contiguous(predicted)
    pair, counts = _count(true * (predictions + 1) + predicted)
    row, column = np.divmod(pair, predictions + 1)
    both = (row > 0) & (column > 0)
    return Overlap(
        true_areas=np.bincount(row, counts, trues + 1)[1:].astype(np.int64),
        predicted_areas=np.bincount(column, counts, predictions + 1)[1:].astype(np.int64),
        true=row[both] - 1,
        predicted=column[both] - 1,
        intersections=counts[both],
    )


def overlap_of(true: np.ndarray | Overlap, predicted: np.ndarray | None) -> Overlap:
    """What the criteria take: `true` itself where it is an overlap already, else that of two label images.

    Raises:
        InputError: when their sizes differ, and for one label image alone.
    """
    if isinstance(true, Overlap):
        return true
    if predicted is None:
        raise InputError(f"true labels of {true.shape} px have nothing to be compared with: give predicted labels too")
    return label_overlap(true, predicted)


def mask_overlap(true: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> Overlap:
    """The overlap of instances that may overlap among themselves, given as bool masks `[H, W]`.

    Raises:
        InputError: when a mask's size differs from the others'.
    """
    shapes = {mask.shape for mask in (*true, *predicted)}
    if len(shapes) > 1:
        raise InputError(f"the masks have different sizes: {sorted(shapes)}")
    pixels = int(np.prod(shapes.pop())) if shapes else 0
    rows_of_true, rows_of_predicted = _pixel_rows(true, pixels), _pixel_rows(predicted, pixels)
    shared = (rows_of_true @ rows_of_predicted.T).tocoo()
    return Overlap(
        true_areas=np.diff(rows_of_true.indptr).astype(np.int64),
        predicted_areas=np.diff(rows_of_predicted.indptr).astype(np.int64),
        true=shared.row.astype(np.int64),
        predicted=shared.col.astype(np.int64),
        intersections=shared.data.astype(np.int64),
    )


def _pixel_rows(masks: Sequence[np.ndarray], pixels: int) -> csr_array:
    """One row a mask, ones at its pixels."""
    places = [np.flatnonzero(mask) for mask in masks]
    ends = np.cumsum([0, *map(len, places)])
    columns = np.concatenate(places) if places else np.zeros(0, np.int64)
    return csr_array((np.ones(len(columns), np.int64), columns, ends), shape=(len(masks), pixels))


def _contiguous(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Flat labels with ids 1..N, int64, and N."""
    flat = np.asarray(labels).ravel().astype(np.int64)
    present, _ = _count(flat)
    instances = present[present > 0]
    if len(instances) and instances[-1] > 2 * flat.size:
        return np.where(flat > 0, np.searchsorted(instances, flat) + 1, 0), len(instances)
    new_ids = np.zeros(int(present[-1]) + 1 if len(present) else 1, np.int64)
    new_ids[instances] = np.arange(1, len(instances) + 1)
    return new_ids[flat], len(instances)


def _count(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, rising, and how often; counted where a table is no larger than the pixels, else sorted."""
    if flat.max(initial=0) <= 2 * flat.size:
        counts = np.bincount(flat)
        values = np.flatnonzero(counts)
        return values, counts[values]
    return np.unique(flat, return_counts=True)
