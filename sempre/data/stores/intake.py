"""From a micrograph's file to what the store keeps of it, or the reason why it is left out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sempre.data.stores.store_writer import StoredImage
from sempre.errors import InputError
from sempre.files import file_sha256
from sempre.images import crop_information_bar, percentile_normalise, read_micrograph, to_uint8
from sempre.images.resize import resize


@dataclass(frozen=True)
class Skipped:
    """A file that is left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Intake:
    """How files become stored images; a callable that processes can share.

    Args:
        folder: what stored paths are relative to.
        percentiles: grey values at these percentiles become 0 and 255.
        crop_information_bar: cut the databar off below the micrograph, before the percentiles are taken.
        scale: keep micrographs at this many times their size.
    """

    folder: Path
    percentiles: tuple[float, float]
    crop_information_bar: bool
    scale: float = 1.0

    def __call__(self, path: str, label: str | None, sha256: str | None) -> StoredImage | Skipped | None:
        """Read `folder/path`; None when its SHA-256 is the given one, which is stored already.

        Raises:
            InputError: when the file's SHA-256 is another than the given one.
        """
        file = self.folder / path
        try:
            status = file.stat()
            digest = file_sha256(file)
            if sha256 is not None:
                if sha256 != digest:
                    raise InputError(f"{file} has changed since it was stored: make a new store, or rename the file")
                return None
            if status.st_size == 0:
                return Skipped(path, "empty file")
            micrograph = read_micrograph(file)
            reason = _unusable(micrograph.pixels)
        except OSError as error:
            return Skipped(path, f"unreadable: {error.strerror or error}")
        except InputError as error:
            if sha256 is not None:
                raise
            return Skipped(path, str(error))
        if reason:
            return Skipped(path, reason)
        pixels = crop_information_bar(micrograph.pixels) if self.crop_information_bar else micrograph.pixels
        grey = to_uint8(resize(percentile_normalise(pixels, *self.percentiles), self.scale))
        if grey.min() == grey.max():
            return Skipped(path, "constant but for its information bar")
        size_nm = micrograph.square_pixel_size_nm / self.scale if micrograph.square_pixel_size_nm else None
        return StoredImage(path, digest, status.st_size, status.st_mtime_ns, grey, size_nm, label)


def _unusable(pixels: np.ndarray) -> str:
    if pixels.size == 0:
        return "no pixels"
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        return "no pixel is a finite number"
    if np.nanmin(pixels) == np.nanmax(pixels):
        return f"constant: every pixel is {np.nanmin(pixels):g}"
    return ""
