import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sempre.data.splits import is_validation, split, split_in_three


def hashes(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(start, start + count)]


def test_the_validation_share_is_the_fraction():
    assert abs(split(hashes(5000), fraction=0.2).mean() - 0.2) < 0.02
    assert abs(split(hashes(5000), fraction=0.5).mean() - 0.5) < 0.03


def test_another_seed_gives_another_split():
    assert (split(hashes(200), seed=0) != split(hashes(200), seed=1)).any()


@given(st.integers(20, 60), st.integers(0, 40), st.integers(0, 5))
def test_adding_files_moves_none_of_the_others(count, more, seed):
    before, after = split(hashes(count), 0.3, seed), split(hashes(count + more), 0.3, seed)
    if 0 < before.sum() < count:  # the rule alone, no side had to be filled
        np.testing.assert_array_equal(before, after[:count])
        assert after.tolist() == [is_validation(sha256, 0.3, seed) for sha256 in hashes(count + more)]


@given(st.lists(st.sampled_from(hashes(4)), max_size=8), st.floats(0.01, 0.99), st.integers(0, 3))
def test_copies_share_a_side_and_no_side_is_empty(sha256s, fraction, seed):
    validation = split(sha256s, fraction, seed)
    assert validation.shape == (len(sha256s),)
    held_out = {sha256 for sha256, held in zip(sha256s, validation, strict=True) if held}
    trained_on = {sha256 for sha256, held in zip(sha256s, validation, strict=True) if not held}
    assert not held_out & trained_on
    if len(set(sha256s)) >= 2:
        assert held_out
        assert trained_on


def test_order_changes_no_side():
    sha256s = hashes(30)
    np.testing.assert_array_equal(split(sha256s)[::-1], split(sha256s[::-1]))


def test_a_fraction_of_zero_or_one_is_taken_at_its_word():
    assert not split(hashes(5), fraction=0).any()
    assert split(hashes(5), fraction=1).all()


@given(st.integers(30, 80), st.integers(0, 30), st.integers(0, 5))
def test_the_test_is_what_a_split_by_its_share_holds_out(count, more, seed):
    validation, test = split_in_three(hashes(count), 0.3, 0.2, seed)
    np.testing.assert_array_equal(test, split(hashes(count), 0.2, seed))
    assert not (validation & test).any()
    np.testing.assert_array_equal(validation | test, split(hashes(count), 0.5, seed))
    grown = split_in_three(hashes(count + more), 0.3, 0.2, seed)
    if test.any() and validation.any():  # the rule alone, no side had to be filled
        np.testing.assert_array_equal(np.array(grown)[:, :count], [validation, test])


@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 3))
def test_without_a_test_share_the_split_is_what_it_was(count, fraction, seed):
    validation, test = split_in_three(hashes(count), fraction, 0.0, seed)
    assert not test.any()
    np.testing.assert_array_equal(validation, split(hashes(count), fraction, seed))
    assert not split_in_three(hashes(count), 0.0, 0.5, seed)[0].any(), "no validation was asked for"
