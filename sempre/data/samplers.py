"""The order of samples, and every draw, as functions of a key alone: (seed, epoch, sample, purpose)."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DataLoader

from sempre.errors import InputError

# The last number of a key: what is drawn, so that two purposes never share a stream.
ORDER, CROP, MASK, AUGMENT, PATCH, VARIETY = range(6)


def generator(*key: int) -> np.random.Generator:
    """A random generator that depends on nothing but `key`: one to five integers from 0 to 2^64 - 1.

    Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the key's numbers
    are words of its key and counter, so different keys give different streams, and making one costs microseconds.
    """
    if not 1 <= len(key) <= 5:
        raise ValueError(f"a key has one to five integers, got {len(key)}")
    words = [int(number) for number in key] + [0] * (5 - len(key))
    # The lowest counter word is the one that counts draws; its top byte tells (1, 2) from (1, 2, 0).
    counter = np.array([len(key) << 56, *words[2:]], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array(words[:2], dtype=np.uint64), counter=counter))


def random_crop(height: int, width: int, size: int, generator: np.random.Generator) -> tuple[int, int]:
    """The corner (y, x) in px of a `size` by `size` crop, uniform over those inside a `height` by `width` image.

    Along a side shorter than the crop the corner is 0.
    """
    y = int(generator.integers(0, max(height - size, 0) + 1))
    x = int(generator.integers(0, max(width - size, 0) + 1))
    return y, x


class EpochSampler:
    """A batch sampler for torch's DataLoader (`batch_sampler=`) that yields lists of (epoch, sample).

    The epoch travels with each sample, so persistent workers need not be told of it. The *global* batches are the same
    for every number of ranks: batch k of an epoch is `order[k * batch_size : (k + 1) * batch_size]`, of which rank r
    takes every `ranks`-th sample from r on.

    Training (`shuffle=True`) drops the last incomplete batch, unless it is the only one. Without shuffling nothing is
    dropped: the last batch is short, and a rank left with none of its samples yields one batch fewer, so sum the
    losses and counts over ranks and divide at the end. A validation set whose `set_epoch` is never called keeps epoch
    0, hence the same crops and masks each time.

    Args:
        samples: number of samples of the dataset.
        batch_size: samples of a batch over all ranks.
        seed: the order's seed.
        rank, ranks: which process of how many.
        shuffle: a new random order each epoch, else 0, 1, 2 ...

    Raises:
        InputError: for no samples, fewer samples to train on than ranks, or a batch that does not divide over them.
    """

    def __init__(
        self, samples: int, batch_size: int, seed: int = 0, rank: int = 0, ranks: int = 1, shuffle: bool = True
    ):
        if samples < (ranks if shuffle else 1):
            raise InputError(f"this split has {samples} samples for {ranks} processes: add images")
        if batch_size < 1 or batch_size % ranks:
            raise InputError(f"a batch of {batch_size} does not divide over {ranks} processes: take a multiple")
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.ranks, self.shuffle = rank, ranks, shuffle
        self.set_epoch(0)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next iteration, and the batch it starts at: a run resumed mid-epoch goes on there."""
        self.epoch, self.first_batch = epoch, first_batch

    def batches(self) -> int:
        """Global batches of a whole epoch."""
        if self.shuffle:
            return max(self.samples // self.batch_size, 1)
        return -(-self.samples // self.batch_size)

    def samples_of(self, batch: int) -> int:
        """How many samples, over all ranks, a global batch has."""
        return min(self.batch_size, self.samples - batch * self.batch_size)

    def order(self) -> np.ndarray:
        """The epoch's samples in order, int64 `[samples]`."""
        if not self.shuffle:
            return np.arange(self.samples)
        return generator(self.seed, self.epoch, ORDER).permutation(self.samples)

    def global_batch(self, batch: int) -> list[int]:
        """The samples, over all ranks, of a batch of the chosen epoch."""
        return self.order()[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, epoch = self.order(), self.epoch
        for batch in range(self.first_batch, self.batches()):
            end = (batch + 1) * self.batch_size
            samples = order[batch * self.batch_size + self.rank : end : self.ranks]
            if len(samples):
                yield [(epoch, sample) for sample in samples.tolist()]

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank, wherever the next iteration starts."""
        batches = self.batches()
        return batches - (self.samples_of(batches - 1) <= self.rank)


def epoch_sampler(loader: DataLoader) -> EpochSampler:
    """The sampler of a loader that was given one of ours."""
    assert isinstance(loader.batch_sampler, EpochSampler)
    return loader.batch_sampler
