import pytest

from sempre.data.splits import by_sample, sample_of
from sempre.errors import InputError


def test_the_last_number_is_left_out():
    assert sample_of("steel_a_03") == "steel_a"
    assert sample_of("steel-17") == "steel"
    assert sample_of("a1b2") == "a1b"
    assert sample_of("powder") == "powder"
    assert sample_of("0042") == "0042"


def test_a_pattern_of_ones_own():
    assert sample_of("lab_2024_x_7", r"_(\w)_") == "x"
    assert by_sample(["b_1", "a_1", "b_2"], r"^[^_]+") == {"b": [0, 2], "a": [1]}
    with pytest.raises(InputError, match="does not match the name powder"):
        sample_of("powder", r"\d+")
    with pytest.raises(InputError, match="is no regular expression"):
        sample_of("powder", "(")
