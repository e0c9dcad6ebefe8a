"""Which instances of different views meet."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sempre.segmentation.detections import Instance, overlapping_pairs

place, side, view = st.integers(0, 30), st.integers(1, 12), st.integers(0, 5)


@given(st.lists(st.tuples(view, place, place, side, side), max_size=12))
def test_pairs_are_all_of_different_views_whose_boxes_share_a_pixel(drawn):
    found = [(number, Instance(x, y, np.ones((height, width), bool), 1.0)) for number, x, y, height, width in drawn]
    covered = [
        {(x + column, y + row) for row in range(height) for column in range(width)} for _, x, y, height, width in drawn
    ]
    expected = [
        (first, second)
        for first, second in combinations(range(len(found)), 2)
        if found[first][0] != found[second][0] and covered[first] & covered[second]
    ]
    assert sorted(overlapping_pairs(found)) == expected
