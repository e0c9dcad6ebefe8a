"""What happens to a micrograph between the detector and the published picture: drift, contrast, resampling, JPEG."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage


def drifted(pixels: np.ndarray, owner: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sheared and wavy scan lines: pixels uint8 `[H, W]` and owners int32 `[H, W]`, moved alike.

    Lines move by up to a few px; what enters at the sides is mirrored.
    """
    height, width = pixels.shape
    shift = random.uniform(-0.05, 0.05) * np.arange(height)
    wave = ndimage.gaussian_filter1d(random.standard_normal(height), random.uniform(2, 20), mode="nearest")
    shift += random.uniform(0, 1.2) * wave / max(wave.std(), 1e-6)
    columns = np.arange(width)[None] + shift[:, None]
    columns = np.abs((width - 1) - np.abs((width - 1) - columns) % (2 * width - 2)) % width
    left = columns.astype(np.intp)
    part = columns - left
    right = np.minimum(left + 1, width - 1)
    rows = np.arange(height)[:, None]
    moved = pixels[rows, left] * (1 - part) + pixels[rows, right] * part
    return np.rint(moved).astype(np.uint8), owner[rows, np.where(part < 0.5, left, right)]


def developed(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another hand at the contrast: clipped, flat, gamma, inverted, noisier; uint8 `[H, W]`."""
    grey = pixels.astype(np.float32)
    if random.random() < 0.3:
        dark, bright = 12 * random.uniform(0, 1, 2) ** 2  # per cent clipped: mostly little
        low, high = np.percentile(grey[::2, ::2], [dark, 100 - bright])
        grey = (grey - low) * (255 / max(high - low, 20))
    elif random.random() < 0.3:
        grey = random.uniform(0, 130) + grey * random.uniform(0.25, 0.6)
    if random.random() < 0.25:
        grey = 255 * (grey.clip(0, 255) / 255) ** np.float32(np.exp(random.normal(0, 0.4)))
    if random.random() < 0.04:
        grey = 255 - grey
    if random.random() < 0.2:
        noise = random.standard_normal(grey.shape, dtype=np.float32)
        grey += random.uniform(4, 28) * ndimage.gaussian_filter(noise, random.choice([0, 0, 0.6]))
    return np.rint(grey.clip(0, 255)).astype(np.uint8)


def resampled(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shrunk and enlarged again, which blurs it, as pictures in papers often are; uint8 `[H, W]`."""
    height, width = pixels.shape
    factor = random.uniform(1.2, 2.5)
    image = Image.fromarray(pixels)
    filters = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]
    small = image.resize((int(width / factor), int(height / factor)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), filters[random.integers(3)]))


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    """With the blocks and ringing of JPEG of a `quality` of 1 to 95; uint8 `[H, W]`."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))
