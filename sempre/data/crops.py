"""Where to cut, drawn from generators that are functions of a key alone: (seed, epoch, sample, purpose)."""

import numpy as np

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
