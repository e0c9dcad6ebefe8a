import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.data.samplers import CROP, MASK, generator, random_crop

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5)


@given(KEYS, KEYS)
def test_a_generator_is_a_function_of_its_key(key, other):
    first = generator(*key).integers(0, 2**62, 4)
    np.testing.assert_array_equal(first, generator(*key).integers(0, 2**62, 4))
    if key != other:
        assert (first != generator(*other).integers(0, 2**62, 4)).any()


def test_keys_that_differ_by_a_trailing_zero_or_the_purpose_differ():
    draws = {generator(*key).integers(0, 2**62) for key in [(1, 2), (1, 2, 0), (1, 2, 3, CROP), (1, 2, 3, MASK)]}
    assert len(draws) == 4


def test_a_key_has_one_to_five_integers():
    for key in [(), (1, 2, 3, 4, 5, 6)]:
        with pytest.raises(ValueError, match="one to five"):
            generator(*key)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(0, 99))
def test_crops_lie_inside(height, width, size, seed):
    y, x = random_crop(height, width, size, generator(seed))
    assert 0 <= y <= max(height - size, 0)
    assert 0 <= x <= max(width - size, 0)


def test_every_corner_occurs_equally_often():
    corners = [random_crop(5, 4, 3, generator(0, draw)) for draw in range(3000)]
    assert min(corners) == (0, 0)
    assert max(corners) == (2, 1)
    _, counts = np.unique(corners, axis=0, return_counts=True)
    assert len(counts) == 6
    assert abs(counts / 500 - 1).max() < 0.2
