"""The patches of a store as images to embed."""

import hashlib
from functools import cached_property

import numpy as np

from sempre.data.feeding.sources import Place, StoreSource
from sempre.errors import InputError


class PatchSource(StoreSource):
    """The patches of a source's store, as images; each has the label of its micrograph.

    `micrograph_of` `[P]` are index rows of the micrographs that they were cut from.

    Raises:
        InputError: when the store has none.
    """

    def __init__(self, source: StoreSource):
        self.store, self.path, self._micrographs = source.store, source.path, source.names
        self.side = source.store.patch_size
        self.preparation = source.preparation | {"patch_size": self.side}
        entries = source.store.patch_entries
        if not len(entries):
            raise InputError(
                f"{source.path} holds no patches: prepare it with patches=16 and a patch_size that its micrographs hold"
            )
        self.micrograph_of, self._corners = entries.image, entries.corner
        self.labels, self.label_names = source.labels[entries.image], source.label_names

    def __len__(self) -> int:
        return len(self.micrograph_of)

    @cached_property
    def names(self) -> list[str]:
        """The micrograph's path and the patch's corner in the store."""
        places = zip(self.micrograph_of, self._corners, strict=True)
        return [f"{self._micrographs[micrograph]} at x={x} y={y}" for micrograph, (y, x) in places]

    @cached_property
    def sha256s(self) -> list[str]:
        """SHA-256 of each patch's place in a micrograph of this SHA-256."""
        sha256s = self.store.entries.sha256[self.micrograph_of].tolist()
        places = zip(sha256s, self._corners, strict=True)
        keys = (f"{sha256.decode()} {x} {y} {self.side}" for sha256, (y, x) in places)
        return [hashlib.sha256(key.encode()).hexdigest() for key in keys]

    def read(self, index: int) -> tuple[np.ndarray, float | None]:
        """A patch, uint8 `[side, side]`, and its pixel size in nm, None when unknown."""
        return self.store.read_patch(index), self._pixel_size_nm(self.micrograph_of[index])

    def micrograph_name(self, index: int) -> str:
        return self._micrographs[self.micrograph_of[index]]

    def read_micrograph(self, index: int) -> np.ndarray:
        """The micrograph that a patch was cut from, uint8 `[H, W]`."""
        return self.store.read(self.micrograph_of[index])

    def place(self, index: int) -> Place:
        y, x = map(int, self._corners[index])
        scale, pixel_size_nm = self.preparation["scale"], self._pixel_size_nm(self.micrograph_of[index])
        return Place(self.micrograph_name(index), x, y, scale, pixel_size_nm and pixel_size_nm * scale)
