import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sempre.errors import InputError
from sempre.frozen.prototypes import read_clicks, sample_points


@pytest.fixture
def write(tmp_path):
    """Write a JSON value, or text, as the file of clicks."""

    def write_file(content: object):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "clicks.json").write_text(text)
        return tmp_path / "clicks.json"

    return write_file


def test_clicks_are_read(write):
    clicks = read_clicks(write({"a.tif": {"positive": [[1, 2.5]], "negative": [[3, 4]]}, "b.tif": {"negative": []}}))
    np.testing.assert_array_equal(clicks["a.tif"].positive, [[1, 2.5]])
    np.testing.assert_array_equal(clicks["a.tif"].negative, [[3, 4]])
    assert clicks["b.tif"].positive.shape == clicks["b.tif"].negative.shape == (0, 2)


def test_clicks_that_are_all_positive(write):
    path = write({"a.tif": {"positive": [[1, 2]]}, "b.tif": {"positive": [[1, 2]], "negative": []}})
    with pytest.raises(InputError, match=r"clicks\.json has positive clicks only: click at least once on the backgr"):
        read_clicks(path)
    assert len(read_clicks(path, need_negative=False)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a.tif": ', "is no JSON"),
        ([], "holds no clicks"),
        ({"a.tif": [[1, 2]]}, "holds no clicks"),
        ({"a.tif": {"negative": [[1, 2]]}}, "no positive clicks"),
        ({}, "no positive clicks"),
        ({"a.tif": {"postive": [[1, 2]]}}, "'postive' clicks on a.tif"),
        ({"a.tif": {"positive": [1, 2]}}, r"a positive click on a.tif is 1: give \[y, x\]"),
        ({"a.tif": {"positive": [[3, 10**30]]}}, r"a positive click on a.tif is \[3, 1000"),
        ({"a.tif": {"positive": [["1", 2]]}}, "give"),
        ({"a.tif": {"positive": [[1, 2, 3]]}}, "give"),
        ({"a.tif": {"positive": [[True, 2]]}}, "give"),
        ('{"a.tif": {"positive": [[NaN, 2]]}}', "give"),
        ({"a.tif": {"positive": 7}}, "give a list"),
    ],
)
def test_files_that_are_wrong(write, content, message):
    with pytest.raises(InputError, match=message):
        read_clicks(write(content))


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_clicks(tmp_path / "none.json")


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(1, 9), st.integers(0, 3))
def test_points_lie_on_their_side_and_do_not_repeat(mask, count, margin):
    points = sample_points(mask, count, margin, seed=0)
    for chosen, side in ((points.positive, mask), (points.negative, ~mask)):
        rows, columns = chosen.astype(int).T
        assert side[rows, columns].all()
        assert len(np.unique(chosen, axis=0)) == len(chosen)
        assert len(chosen) <= min(count, side.sum())
        assert len(chosen) or not side.any()


def test_points_keep_the_margin_where_there_is_room():
    mask = np.zeros((60, 60), bool)
    mask[10:40, 10:40] = True
    points = sample_points(mask, 50, 6, seed=1)
    y, x = np.mgrid[:60, :60]
    for chosen, other in ((points.positive, ~mask), (points.negative, mask)):
        assert len(chosen) == 50
        for row, column in chosen:
            assert np.hypot(y - row, x - column)[other].min() > 6


def test_a_small_particle_gets_points_with_less_margin():
    mask = np.zeros((60, 60), bool)
    mask[20:23, 20:23] = True
    points = sample_points(mask, 5, 8, seed=1)
    assert len(points.positive) > 0
    assert (np.abs(points.positive - 21) <= 1).all()


def test_points_depend_on_the_seed_alone_and_the_first_ones_stay():
    mask = np.random.default_rng(0).random((40, 40)) > 0.5
    many, few, other = (sample_points(mask, count, 0, seed) for count, seed in ((50, 3), (5, 3), (5, 4)))
    np.testing.assert_array_equal(many.positive[:5], few.positive)
    np.testing.assert_array_equal(many.negative[:5], few.negative)
    assert not np.array_equal(few.positive, other.positive)


def test_empty_and_full_masks_have_points_of_one_sort():
    empty, full = (sample_points(np.full((9, 9), value), 4, 2, seed=0) for value in (False, True))
    assert (len(empty.positive), len(empty.negative)) == (0, 4)
    assert (len(full.positive), len(full.negative)) == (4, 0)
