import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sempre.metrics import SIZE_EDGES, add_by_size, count_by_size, count_matches, label_overlap, size_bin_names


@st.composite
def rectangles(draw) -> np.ndarray:
    """A label image `[96, 96]` of rectangles of all sizes; later ones lie on top."""
    image = np.zeros((96, 96), int)
    for label in range(1, draw(st.integers(0, 6)) + 1):
        y, x = draw(st.integers(0, 90)), draw(st.integers(0, 90))
        image[y : y + draw(st.integers(1, 96)), x : x + draw(st.integers(1, 96))] = label
    return image


def by_brute_force(true: np.ndarray, predicted: np.ndarray) -> dict[str, list[int]]:
    """Mask by mask, pair by pair, bin by bin."""
    sides = [[image == label for label in np.unique(image) if label] for image in (true, predicted)]
    ious = {(j, k): (a & b).sum() / (a | b).sum() for j, a in enumerate(sides[0]) for k, b in enumerate(sides[1])}
    near = [pair for pair, iou in ious.items() if iou >= 0.4]
    counts = {name: [0] * (len(SIZE_EDGES) + 1) for name in ("true", "found", "false_positives")}

    def count(name: str, mask: np.ndarray) -> None:
        diameter = 2 * (mask.sum() / np.pi) ** 0.5
        counts[name][sum(diameter >= edge for edge in SIZE_EDGES)] += 1

    for k, mask in enumerate(sides[0]):
        count("true", mask)
        if k in [pair[0] for pair in near]:
            count("found", mask)
    for k, mask in enumerate(sides[1]):
        if k not in [pair[1] for pair in near]:
            count("false_positives", mask)
    return counts


@given(rectangles(), rectangles())
def test_counts_are_those_of_a_brute_force(true, predicted):
    assert count_by_size(true, predicted) == by_brute_force(true, predicted)


@given(rectangles(), rectangles())
def test_the_bins_add_up_to_the_counts_of_all_sizes(true, predicted):
    overlap = label_overlap(true, predicted)
    bins, matches = count_by_size(overlap), count_matches(overlap)
    assert sum(bins["true"]) == matches.correct + matches.missed
    assert sum(bins["found"]) == matches.correct
    assert sum(bins["false_positives"]) == matches.false_positives


def test_a_small_one_is_found_a_large_one_missed_and_one_invented():
    true, predicted = np.zeros((2, 100, 100), int)
    true[2:8, 2:8] = predicted[2:8, 2:8] = 1  # 6x6 px, a disc of 6.8 px
    true[20:60, 20:60] = 2  # 40x40 px: 45.1 px
    predicted[70:80, 70:80] = 2  # 10x10 px: 11.3 px
    bins = count_by_size(true, predicted)
    assert bins == {
        "true": [1, 0, 0, 1, 0, 0, 0],
        "found": [1, 0, 0, 0, 0, 0, 0],
        "false_positives": [0, 1, 0, 0, 0, 0, 0],
    }
    assert add_by_size([bins, bins])["true"] == [2, 0, 0, 2, 0, 0, 0]


def test_bins_are_named_by_their_edges():
    names = size_bin_names()
    assert len(names) == len(SIZE_EDGES) + 1
    assert (names[0], names[1], names[-1]) == ("0–8", "8–16", "256+")
