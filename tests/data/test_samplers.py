import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.data.samplers import EpochSampler
from sempre.errors import InputError


def samples(sampler: EpochSampler) -> list[list[int]]:
    return [[sample for _, sample in batch] for batch in sampler]


def visited(sampler: EpochSampler) -> list[int]:
    return [sample for batch in sampler for _, sample in batch]


@given(st.integers(6, 60), st.sampled_from([1, 2, 3]), st.integers(1, 4), st.booleans(), st.integers(0, 4))
def test_global_batches_are_the_same_for_every_number_of_ranks(count, ranks, share, shuffle, epoch):
    batch_size = 6 * share
    alone = EpochSampler(count, batch_size, seed=1, shuffle=shuffle)
    together = [EpochSampler(count, batch_size, 1, rank, ranks, shuffle) for rank in range(ranks)]
    for sampler in [alone, *together]:
        sampler.set_epoch(epoch)
    of_ranks = [samples(sampler) for sampler in together]
    for number, batch in enumerate(samples(alone)):
        joined = [rank_batches[number] for rank_batches in of_ranks if number < len(rank_batches)]
        assert sorted(np.concatenate(joined).tolist()) == sorted(batch)
    assert [len(sampler) for sampler in together] == [len(batches) for batches in of_ranks]


def test_a_batch_is_split_evenly():
    batches = [samples(EpochSampler(100, 12, rank=rank, ranks=4)) for rank in range(4)]
    assert {len(batch) for rank_batches in batches for batch in rank_batches} == {3}


def test_an_epoch_visits_each_sample_once_and_epochs_differ():
    sampler = EpochSampler(32, 8)
    first = visited(sampler)
    assert sorted(first) == list(range(32))
    sampler.set_epoch(1)
    assert visited(sampler) != first
    assert {epoch for batch in sampler for epoch, _ in batch} == {1}
    sampler.set_epoch(0)
    assert visited(sampler) == first


def test_a_resumed_epoch_goes_on_at_the_batch():
    sampler = EpochSampler(50, 4, seed=3)
    sampler.set_epoch(2)
    whole = samples(sampler)
    sampler.set_epoch(2, first_batch=5)
    assert samples(sampler) == whole[5:]
    assert len(sampler) == len(whole)


def test_training_drops_the_incomplete_batch_and_validation_keeps_it():
    assert [len(batch) for batch in samples(EpochSampler(10, 4))] == [4, 4]
    assert [len(batch) for batch in samples(EpochSampler(3, 4))] == [3]
    assert samples(EpochSampler(10, 4, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_indivisible_batches_and_empty_sides_are_refused():
    with pytest.raises(InputError, match="10 does not divide over 4"):
        EpochSampler(100, 10, ranks=4)
    with pytest.raises(InputError, match="0 samples"):
        EpochSampler(0, 4, shuffle=False)
    with pytest.raises(InputError, match="1 samples for 2"):
        EpochSampler(1, 4, ranks=2)


def test_a_million_entries_are_a_permutation():
    order = EpochSampler(1_000_000, 256).order()
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(order), 1)
