"""What an encoder made of micrographs, in one HDF5 file that grows and that a kill cannot break.

    cells/<rows>x<columns>   float16 [N, rows, columns, C]   the cells of micrographs of one shape
    class_tokens             float32 [M, C]                  one a micrograph, where the network has them
    index/<column>           [M]                             sha256, row (in its stack), height, width, input size in px

Attributes name the encoder and how the micrographs were brought to it. `sempre.data.journal` makes every write
whole or absent.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from sempre.data.journal import JournaledFile, append_rows
from sempre.errors import InputError, one_input_error
from sempre.files import parse_json
from sempre.frozen.encoder import Grid
from sempre.images.claims import check_no_way_out, check_packing, plane_bytes
from sempre.images.hdf5_guard import look_through
from sempre.locks import open_hdf5_file
from sempre.processes import interrupts_wait

FORMAT = 1
LARGEST = float(np.finfo(np.float16).max)
_SIZES = ("height", "width", "input_height", "input_width")
_COLUMNS = dict.fromkeys(("row", *_SIZES), np.int64) | {"sha256": "S64"}


@dataclass(frozen=True)
class Embedding:
    """Of one micrograph: `cells` float32 `[rows, columns, C]`, where they lie, `class_token` `[C]` or None."""

    sha256: str
    grid: Grid
    cells: np.ndarray
    class_token: np.ndarray | None


class Embeddings:
    """Embeddings of micrographs, read by the SHA-256 of their files.

    `settings` name the encoder and the preparation; `checksum` stands for the encoder.

    Raises:
        InputError: when `path` holds none.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with self._undamaged():
            look_through(self.path, own=True)
            self._file = open_hdf5_file(path)
            check_no_way_out(self._file)
            self.settings = parse_json(self._file.attrs["settings"])
            for name in _COLUMNS:
                check_packing(self.path, self._file["index"][name].nbytes)
            index = {name: self._file["index"][name][:] for name in _COLUMNS}
            self._entries = {sha256.decode(): position for position, sha256 in enumerate(index.pop("sha256"))}
            self._index = index
            self.checksum: str = self.settings["encoder_checksum"]
            self.cell: int = int(self.settings["cell"])
            self.width: int = int(self.settings["width"])
            if min(self.cell, self.width) < 1 or any(len(column) < len(self._entries) for column in index.values()):
                raise ValueError("its index is cut short")

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._entries

    def grid(self, sha256: str) -> Grid:
        """Where a micrograph's cells lie; nothing else is read.

        Raises:
            KeyError: when it has no embedding.
        """
        position = self._entries[sha256]
        return Grid(**{name: int(self._index[name][position]) for name in _SIZES}, cell=self.cell)

    def __getitem__(self, sha256: str) -> Embedding:
        """A micrograph's embedding.

        Raises:
            KeyError: when it has none.
        """
        position, grid = self._entries[sha256], self.grid(sha256)
        row = int(self._index["row"][position])
        with self._undamaged():
            stack = self._file[f"cells/{grid.rows}x{grid.columns}"]
            if stack.shape[1:] != (grid.rows, grid.columns, self.width):
                raise ValueError(f"{stack.name} has the shape {stack.shape}")
            check_packing(self.path, plane_bytes(stack, axes=3))
            cells = torch.from_numpy(stack[row]).float().numpy()  # in a third of the time that NumPy takes
            token = self._file["class_tokens"][position] if "class_tokens" in self._file else None
        return Embedding(sha256, grid, cells, token)

    def _undamaged(self) -> AbstractContextManager[None]:
        return one_input_error(
            lambda reason: f"{self.path} holds no embeddings ({reason}): give a file that evaluate/ wrote"
        )

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Embeddings":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class EmbeddingWriter:
    """Appends embeddings to the file at `path`, made when missing; `known` are the SHA-256s already in it.

    Raises:
        InputError: when the file is another encoder's, prepared otherwise, or in use.
    """

    def __init__(self, path: str | Path, settings: dict):
        self._journaled = JournaledFile(path)
        try:
            new = self._journaled.seek(0, 2) == 0
            with interrupts_wait():
                self._file = h5py.File(self._journaled, "w" if new else "r+", libver=("earliest", "v108"))
            if new:
                self._create(settings)
            elif json.loads(self._file.attrs["settings"]) != json.loads(json.dumps(settings)):
                raise InputError(f"{path} holds embeddings of another backbone or size: give another embeddings=")
        except BaseException:
            self._journaled.close()
            raise
        self.known = {sha256.decode() for sha256 in self._file["index/sha256"][:]}

    def __enter__(self) -> "EmbeddingWriter":
        return self

    @interrupts_wait()
    def __exit__(self, *_) -> None:
        try:
            self._file.close()
        finally:
            self._journaled.close()

    @interrupts_wait()
    def append(self, batch: Sequence[Embedding]) -> None:
        """Add embeddings of cells of one shape; they are on the disk when this returns."""
        stack = self._stack(batch[0].cells.shape)
        first = len(stack)
        cells = torch.stack([torch.from_numpy(embedding.cells) for embedding in batch])
        append_rows(stack, cells.clamp(-LARGEST, LARGEST).half().numpy())
        columns = {
            "sha256": [embedding.sha256.encode() for embedding in batch],
            "row": range(first, first + len(batch)),
        }
        for name in _SIZES:
            columns[name] = [getattr(embedding.grid, name) for embedding in batch]
        for name, values in columns.items():
            append_rows(self._file["index"][name], np.array(values, dtype=_COLUMNS[name]))
        if tokens := [embedding.class_token for embedding in batch if embedding.class_token is not None]:
            append_rows(self._file["class_tokens"], np.stack(tokens))
        self._commit()
        self.known.update(embedding.sha256 for embedding in batch)

    @interrupts_wait()
    def _create(self, settings: dict) -> None:
        self._file.attrs.update(format=FORMAT, settings=json.dumps(settings))
        for name, kind in _COLUMNS.items():
            self._file.create_dataset(f"index/{name}", (0,), kind, maxshape=(None,), chunks=(8192,))
        if settings["class_token"]:
            width = settings["width"]
            self._file.create_dataset("class_tokens", (0, width), "f4", maxshape=(None, width), chunks=(64, width))
        self._commit()

    def _stack(self, shape: tuple[int, int, int]) -> h5py.Dataset:
        name = "cells/{}x{}".format(*shape[:2])
        if name not in self._file:
            self._file.create_dataset(name, (0, *shape), "f2", maxshape=(None, *shape), chunks=(1, *shape))
        return self._file[name]

    def _commit(self) -> None:
        self._file.flush()
        self._journaled.commit()
