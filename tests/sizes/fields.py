"""Fields of discs of a known distribution, cut by the border and by an information bar, for the tests of sizes."""

import numpy as np

from sempre.sizes.borders import Field, Sample


def disc_field(random, median, gsd, *, number=100.0, side=1000.0, bar=100.0, largest=None, drift=0.0):
    """A field of `side` by `side - bar` with `number` discs on average, of log-normal diameters.

    Diameters above `largest` (default: a fifth of the side) are drawn again. `drift` shifts the logarithms of all the
    field's diameters, as micrographs of different places differ.
    """
    largest = side / 5 if largest is None else largest
    height, margin = side - bar, largest
    area = (side + 2 * margin) * (height + 2 * margin)
    diameter = log_normal(random, median, gsd, random.poisson(number * area / (side * height)), largest)
    diameter *= np.exp(drift)
    x, y = (random.uniform(-margin, length + margin, len(diameter)) for length in (side, height))
    left, right = x - diameter / 2, x + diameter / 2
    top, bottom = y - diameter / 2, y + diameter / 2
    seen = (right > 0) & (left < side) & (bottom > 0) & (top < height)
    cut = (left < 0) | (right > side) | (top < 0) | (bottom > height)
    u = (np.arange(40) + 0.5) / 20 - 1
    within = np.hypot(*np.meshgrid(u, u)) <= 1
    visible = np.array([shown(*disc, u, within, side, height) for disc in zip(x, y, diameter, strict=True)])
    seen &= visible > 0
    size = np.where(cut, diameter * np.sqrt(visible), diameter)
    width = np.minimum(right, side) - np.maximum(left, 0)
    tall = np.minimum(bottom, height) - np.maximum(top, 0)
    arrays = [values[seen] for values in (size, size, width, tall, cut)]
    return Field("field", side, height, 1.0, *arrays)


def shown(x, y, diameter, u, within, side, height):
    """The share of a disc's area that lies in the field, on 40 by 40 points."""
    columns = (x + u * diameter / 2 >= 0) & (x + u * diameter / 2 <= side)
    rows = (y + u * diameter / 2 >= 0) & (y + u * diameter / 2 <= height)
    return (within & rows[:, None] & columns).sum() / within.sum()


def log_normal(random, median, gsd, number, largest):
    values = median * np.exp(np.log(gsd) * random.standard_normal(number))
    while (large := values > largest).any():
        values[large] = median * np.exp(np.log(gsd) * random.standard_normal(large.sum()))
    return values


def sample(seed, median, gsd, fields, **options):
    random = np.random.default_rng(seed)
    return Sample("discs", "nm", [disc_field(random, median, gsd, **options) for _ in range(fields)])
