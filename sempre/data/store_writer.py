"""Writing a store: micrographs taken in, and batches that are stored whole or not at all."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

import sempre
from sempre.data.journal import JournaledFile, append_rows
from sempre.data.samplers import PATCH, generator, random_crop
from sempre.data.store import FORMAT, chunk_offsets
from sempre.errors import InputError
from sempre.files import file_sha256
from sempre.images import crop_information_bar, percentile_normalise, read_micrograph, to_uint8
from sempre.images.resize import resize
from sempre.processes import interrupts_wait

CHUNK = 160  # px: a 640x640 crop touches 16 to 25 chunks of 25 KB
BATCH_BYTES = 1 << 26
BATCH_IMAGES = 256

_COLUMNS = {
    "row": np.int32,
    "height": np.int32,
    "width": np.int32,
    "label": np.int32,
    "pixel_size_nm": np.float64,
    "sha256": "S64",
    "path": h5py.string_dtype(),
    "file_bytes": np.int64,
    "modified_ns": np.int64,
}


@dataclass(frozen=True)
class StoredImage:
    """A micrograph as it goes into the store: pixels uint8 `[H, W]`, and what the index says of its file."""

    path: str  # relative to the folder that is prepared
    sha256: str
    file_bytes: int
    modified_ns: int
    pixels: np.ndarray
    pixel_size_nm: float | None = None
    label: str | None = None


class StoreWriter:
    """Appends micrographs to a store, new or begun; use it in a `with` block and end with `finish()`.

    A killed run loses the batch it was collecting (64 MB or 256 images); the file stays valid
    (`sempre.data.journal`).

    Args:
        path: the HDF5 file.
        percentiles: grey values at these percentiles became 0 and 255.
        patch_size, patches: side in px and number of the random patches kept of every image at least that large.
        seed: the patches' seed; a patch's corner depends on it and on the image's SHA-256.

    Raises:
        InputError: when another process has the store open, it is no store, or was begun with other settings.
    """

    def __init__(
        self,
        path: str | Path,
        percentiles: tuple[float, float] = (1.0, 99.0),
        patch_size: int = 64,
        patches: int = 16,
        seed: int = 0,
        **settings: str | int | float | bool,
    ):
        self.path = Path(path)
        self.settings = {
            "percentiles": [float(percentile) for percentile in percentiles],
            "patch_size": patch_size,
            "patches": patches,
            "seed": seed,
            **settings,
        }
        self._batch: list[StoredImage] = []
        self._batch_bytes = 0
        self._journaled = JournaledFile(path)
        try:
            new = self._journaled.seek(0, 2) == 0
            self._file = self._create() if new else self._continue()
        except BaseException:
            self._journaled.close()
            raise
        index = self._file["index"]
        columns = (index[name][:].tolist() for name in ("path", "file_bytes", "modified_ns", "sha256"))
        # path -> (bytes, time of change, sha256) of what is stored
        self.stored = {path.decode(): (*file, sha256.decode()) for path, *file, sha256 in zip(*columns, strict=True)}
        self._labels = {name.decode(): code for code, name in enumerate(self._file["labels"][:])}

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None or issubclass(kind, KeyboardInterrupt):
                self._write_batch()
        finally:
            self._close()

    def append(self, image: StoredImage) -> None:
        """Add a micrograph; it is on the disk after its batch is full, or at the end."""
        self._batch.append(image)
        self._batch_bytes += image.pixels.nbytes
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_IMAGES:
            self._write_batch()

    @interrupts_wait()
    def finish(self) -> None:
        """Write what is left and mark the store as complete."""
        self._write_batch()
        self._note_chunks()
        self._file.attrs["complete"] = True
        self._commit()

    @interrupts_wait()
    def _create(self) -> h5py.File:
        # The oldest file format: every HDF5 reader opens it, and it has no "open for writing" mark to outlive a kill.
        file = h5py.File(self._journaled, "w", libver=("earliest", "v108"))
        file.attrs.update(format=FORMAT, complete=False, code_version=sempre.__version__, **self.settings)
        for name, kind in _COLUMNS.items():
            file.create_dataset(f"index/{name}", (0,), kind, maxshape=(None,), chunks=(8192,))
        file.create_dataset("labels", (0,), h5py.string_dtype(), maxshape=(None,), chunks=(1024,))
        file.create_group("images")
        side = self.settings["patch_size"]
        file.create_dataset(
            "patches/pixels", (0, side, side), "u1", maxshape=(None, side, side), chunks=(16, side, side)
        )
        file.create_dataset("patches/image", (0,), np.int64, maxshape=(None,), chunks=(8192,))
        file.create_dataset("patches/corner", (0, 2), np.int32, maxshape=(None, 2), chunks=(8192, 2))
        self._commit(file)
        return file

    @interrupts_wait()
    def _continue(self) -> h5py.File:
        try:
            file = h5py.File(self._journaled, "r+", libver=("earliest", "v108"))
        except OSError as error:
            raise InputError(f"{self.path} exists and is no store: choose another name") from error
        if file.attrs.get("format") != FORMAT:
            file.close()
            raise InputError(f"{self.path} is not a store of format {FORMAT}: choose another name or remove it")
        # A shard goes on as that shard alone, and plain percentiles stay plain.
        for name in [*self.settings, "shard", "plain_percentiles"]:
            before, value = file.attrs.get(name), self.settings.get(name)
            if not np.array_equal(before, np.array(value)):
                file.close()
                raise InputError(f"{self.path} was made with {name}={before}, not {value}: choose another name")
        return file

    @interrupts_wait()
    def _write_batch(self) -> None:
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        rows = self._append_pixels(batch)
        self._journaled.check()
        first = len(self._file["index/row"])
        self._append_labels(batch)
        columns = {
            "row": rows,
            "height": [image.pixels.shape[0] for image in batch],
            "width": [image.pixels.shape[1] for image in batch],
            "label": [-1 if image.label is None else self._labels[image.label] for image in batch],
            "pixel_size_nm": [np.nan if image.pixel_size_nm is None else image.pixel_size_nm for image in batch],
            "sha256": [image.sha256.encode() for image in batch],
            "path": [image.path for image in batch],
            "file_bytes": [image.file_bytes for image in batch],
            "modified_ns": [image.modified_ns for image in batch],
        }
        for name, values in columns.items():
            append_rows(self._file["index"][name], np.array(values, dtype=_COLUMNS[name]))
        self._append_patches(batch, first)
        self._file.attrs["complete"] = False
        self._commit()
        for image in batch:
            self.stored[image.path] = (image.file_bytes, image.modified_ns, image.sha256)

    def _append_pixels(self, batch: list[StoredImage]) -> list[int]:
        rows = [0] * len(batch)
        of_size: dict[tuple[int, int], list[int]] = {}
        for position, image in enumerate(batch):
            of_size.setdefault(image.pixels.shape, []).append(position)
        for (height, width), positions in of_size.items():
            name = f"images/{height}x{width}"
            if name not in self._file:
                chunks = (1, min(CHUNK, height), min(CHUNK, width))
                self._file.create_dataset(name, (0, height, width), "u1", maxshape=(None, height, width), chunks=chunks)
            stack = self._file[name]
            first = len(stack)
            stack.resize(first + len(positions), axis=0)
            for row, position in enumerate(positions, first):
                stack[row] = batch[position].pixels
                rows[position] = row
        return rows

    def _note_chunks(self) -> None:
        """Bring the tables of where the chunks lie up to date."""
        tables = self._file.require_group("chunks")
        for name, stack in self._file["images"].items():
            if name in tables and len(tables[name]) == len(stack):
                continue
            if name in tables:
                del tables[name]
            tables[name] = chunk_offsets(stack)

    def _append_labels(self, batch: list[StoredImage]) -> None:
        new = list(dict.fromkeys(i.label for i in batch if i.label is not None and i.label not in self._labels))
        for name in new:
            self._labels[name] = len(self._labels)
        append_rows(self._file["labels"], np.array(new, dtype=h5py.string_dtype()))

    def _append_patches(self, batch: list[StoredImage], first: int) -> None:
        side, count = self.settings["patch_size"], self.settings["patches"]
        images, corners, pixels = [], [], []
        for index, image in enumerate(batch, first):
            if count and min(image.pixels.shape) >= side:
                draws = generator(self.settings["seed"], int(image.sha256[:16], 16), PATCH)
                for _ in range(count):
                    y, x = random_crop(*image.pixels.shape, size=side, generator=draws)
                    images.append(index)
                    corners.append((y, x))
                    pixels.append(image.pixels[y : y + side, x : x + side])
        if images:
            append_rows(self._file["patches/pixels"], np.stack(pixels))
            append_rows(self._file["patches/image"], np.array(images))
            append_rows(self._file["patches/corner"], np.array(corners))

    def _commit(self, file: h5py.File | None = None) -> None:
        (file or self._file).flush()
        self._journaled.commit()

    @interrupts_wait()
    def _close(self) -> None:
        try:
            self._file.close()
        finally:
            self._journaled.close()  # takes back whatever was not committed


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
        plain: as `sempre.images.percentile_normalise` takes it.
    """

    folder: Path
    percentiles: tuple[float, float]
    crop_information_bar: bool
    scale: float = 1.0
    plain: bool = False

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
        grey = to_uint8(resize(percentile_normalise(pixels, *self.percentiles, self.plain), self.scale))
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
