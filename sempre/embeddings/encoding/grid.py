"""Where an encoder's cells lie in a micrograph, whatever its size and the scale it was embedded at."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from sempre.errors import InputError
from sempre.images.resize import resize_to


@dataclass(frozen=True)
class Grid:
    """Cells of a micrograph: `height` x `width` px, embedded at `input_height` x `input_width` px, cells of `cell` px.

    The last row and column of cells may reach beyond the micrograph.
    """

    height: int
    width: int
    input_height: int
    input_width: int
    cell: int

    @property
    def rows(self) -> int:
        return -(-self.input_height // self.cell)

    @property
    def columns(self) -> int:
        return -(-self.input_width // self.cell)

    @property
    def cells(self) -> int:
        return self.rows * self.columns

    def cells_at(self, points: np.ndarray) -> np.ndarray:
        """Rows and columns of cells `[P, 2]` that points `[P, 2]` (y, x in px of the micrograph) lie in.

        Raises:
            InputError: for a point outside the micrograph.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        outside = (points < 0).any(1) | (points >= (self.height, self.width)).any(1)
        if outside.any():
            y, x = points[outside][0]
            raise InputError(f"the point y={y:g} x={x:g} is outside the micrograph of {self.height}x{self.width} px")
        scale = np.array([self.input_height / self.height, self.input_width / self.width])
        return np.minimum((points * scale / self.cell).astype(int), (self.rows - 1, self.columns - 1))

    def boxes(self, cells: np.ndarray) -> np.ndarray:
        """What cells `[P]`, counted row by row, cover of the micrograph: x0, y0, x1, y1 in its px, float64 `[P, 4]`."""
        rows, columns = np.divmod(cells, self.columns)
        corners = np.stack([columns, rows, columns + 1, rows + 1], axis=-1) * self.cell
        reached = np.minimum(corners, 2 * (self.input_width, self.input_height))
        return reached * (2 * (self.width / self.input_width, self.height / self.input_height))

    def to_cells(self, values: np.ndarray) -> np.ndarray:
        """Mean in each cell of values `[height, width]`, float32 `[rows, columns]`: of a mask, the share covered."""
        values = resize_to(np.asarray(values, np.float32), (self.input_height, self.input_width))
        padding = (0, self.rows * self.cell - self.input_height), (0, self.columns * self.cell - self.input_width)
        sums, counts = (
            np.pad(layer, padding).reshape(self.rows, self.cell, self.columns, self.cell).sum((1, 3))
            for layer in (values, np.ones_like(values))
        )
        return sums / counts

    def to_pixels(self, values: np.ndarray) -> np.ndarray:
        """Values of cells `[rows, columns]` at every px, float32 `[height, width]`: bilinear between cells' centres."""
        tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
        at_input = functional.interpolate(tensor, scale_factor=self.cell, mode="bilinear", align_corners=False)
        at_input = at_input[:, :, : self.input_height, : self.input_width]
        size = (self.height, self.width)
        return functional.interpolate(at_input, size, mode="bilinear", align_corners=False)[0, 0].numpy()
