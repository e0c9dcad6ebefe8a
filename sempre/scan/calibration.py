"""Where a px of the preview is on the stage."""

from dataclasses import dataclass

import numpy as np

from sempre.errors import InputError


@dataclass(frozen=True)
class Calibration:
    """How the preview lies on the stage.

    Args:
        shape: height and width of the preview, px.
        pixel_size_nm: nm per px.
        centre_um: the stage's x and y in um when the preview's middle is under the beam.
        rotation_deg: from the image's x axis to the stage's, counted from x to y.
        mirrored: whether the stage's y grows upwards in the image, as most do; px count downwards.

    Raises:
        InputError: for an unknown pixel size or numbers that are none.
    """

    shape: tuple[int, int]
    pixel_size_nm: float | None
    centre_um: tuple[float, float] = (0.0, 0.0)
    rotation_deg: float = 0.0
    mirrored: bool = True

    def __post_init__(self):
        if self.pixel_size_nm is None:
            raise InputError("the preview does not say its pixel size: give pixel_size_nm=NUMBER")
        if not 0 < self.pixel_size_nm < np.inf or not np.isfinite([*self.centre_um, self.rotation_deg]).all():
            raise InputError(f"{self} is no calibration: give finite numbers and a pixel size above 0")

    @property
    def nm_per_px(self) -> float:
        assert self.pixel_size_nm is not None  # or it would not have been made
        return self.pixel_size_nm

    @property
    def um_per_px(self) -> float:
        return self.nm_per_px / 1e3

    def to_stage(self, points: np.ndarray) -> np.ndarray:
        """Stage positions (x, y in um) `[N, 2]` of points (y, x in px) `[N, 2]`, px centres at halves."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        offset = (points - np.array(self.shape) / 2)[:, ::-1] * self.um_per_px
        return (offset * self._signs) @ self._turn.T + self.centre_um

    def to_px(self, positions: np.ndarray) -> np.ndarray:
        """Points (y, x in px) `[N, 2]` of stage positions (x, y in um) `[N, 2]`: the inverse of `to_stage`."""
        positions = np.asarray(positions, np.float64).reshape(-1, 2)
        offset = ((positions - self.centre_um) @ self._turn) * self._signs / self.um_per_px
        return offset[:, ::-1] + np.array(self.shape) / 2

    @property
    def _signs(self) -> np.ndarray:
        return np.array([1.0, -1.0 if self.mirrored else 1.0])

    @property
    def _turn(self) -> np.ndarray:
        angle = np.deg2rad(self.rotation_deg)
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
