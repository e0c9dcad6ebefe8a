import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sempre.images.volume_objects import link_slices


def volume(objects, linked):
    return np.stack([of_slice[labels] for of_slice, labels in zip(linked, objects, strict=True)])


def test_an_instance_goes_on_as_the_one_below_it():
    slices = np.zeros((4, 20, 30), int)
    slices[0, 2:8, 2:8], slices[0, 10:18, 12:20] = 1, 2
    slices[1, 10:18, 13:21], slices[1, 3:9, 2:8] = 1, 2  # other numbers, a px further on
    slices[2, 3:9, 2:8] = 1  # the second ends
    slices[3, 3:9, 2:8], slices[3, 10:18, 13:21] = 1, 2  # and another begins where it was
    found = volume(slices, link_slices(slices))
    assert list(found[:, 5, 5]) == [1, 1, 1, 1]
    assert list(found[:, 14, 15]) == [2, 2, 0, 3]


def test_what_overlaps_little_or_is_wanted_by_two_is_another_object():
    slices = np.zeros((2, 20, 30), int)
    slices[0, 2:10, 2:10] = 1
    slices[1, 2:10, 8:16] = 1
    assert [list(ids) for ids in link_slices(slices)] == [[0, 1], [0, 2]]
    slices[0], slices[1] = 0, 0
    slices[0, 2:10, 2:22] = 1
    slices[1, 2:10, 2:15], slices[1, 2:10, 15:22] = 1, 2  # it divides: the larger part goes on
    assert [list(ids) for ids in link_slices(slices)] == [[0, 1], [0, 1, 2]]


@given(st.integers(0, 10_000))
def test_every_instance_is_one_object_and_no_object_has_two_instances_a_slice(seed):
    random = np.random.default_rng(seed)
    slices = [ndimage.label(ndimage.gaussian_filter(random.random((24, 24)), 1.5) > 0.52)[0] for _ in range(3)]
    linked = link_slices(slices, least_iou=0.1)
    for labels, objects in zip(slices, linked, strict=True):
        assert len(objects) == labels.max() + 1
        assert objects[0] == 0
        assert len(set(objects)) == len(objects)
    numbers = set(np.concatenate(linked)) - {0}
    assert numbers == set(range(1, len(numbers) + 1)), "without gaps"
