import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.errors import InputError
from sempre.frozen.encoder import Grid

sides = st.integers(5, 60)


@given(sides, sides, st.sampled_from([4, 8, 16]), st.integers(0, 1000))
def test_a_cell_is_the_mean_of_its_pixels(height, width, cell, seed):
    grid = Grid(height, width, height, width, cell)
    values = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    means = grid.to_cells(values)
    assert means.shape == (grid.rows, grid.columns) == (-(-height // cell), -(-width // cell))
    for row in range(grid.rows):
        for column in range(grid.columns):
            inside = values[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
            assert means[row, column] == pytest.approx(inside.mean(), rel=1e-5)


@given(sides, sides, st.floats(0.4, 2.0), st.floats(0, 1), st.floats(0, 1))
def test_a_point_lies_in_its_cell(height, width, scale, y, x):
    grid = Grid(height, width, max(1, round(height * scale)), max(1, round(width * scale)), 4)
    point = np.array([min(y * height, height - 1), min(x * width, width - 1)])
    ((row, column),) = grid.cells_at(point)
    assert row == min(int(point[0] * grid.input_height / height / 4), grid.rows - 1)
    assert 0 <= column < grid.columns


def test_a_point_outside_names_itself():
    with pytest.raises(InputError, match="the point y=3 x=64 is outside the micrograph of 48x64 px"):
        Grid(48, 64, 48, 64, 16).cells_at(np.array([[1, 1], [3, 64]]))
    with pytest.raises(InputError, match="y=-1 x=0"):
        Grid(48, 64, 48, 64, 16).cells_at(np.array([[-1, 0]]))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_ramp_of_cells_is_the_ramp_of_pixels(scale):
    grid = Grid(96, 130, round(96 * scale), round(130 * scale), 16)
    pixels = np.tile(np.arange(130, dtype=np.float32) + 0.5, (96, 1))
    back = grid.to_pixels(grid.to_cells(pixels))
    assert back.shape == pixels.shape
    inside = slice(round(8 / scale) + 1, -round(24 / scale))
    np.testing.assert_allclose(back[:, inside], pixels[:, inside], atol=0.6)


@given(sides, sides, sides, sides, st.sampled_from([4, 8, 16]))
def test_points_of_a_box_lie_in_its_cell(height, width, input_height, input_width, cell):
    grid = Grid(height, width, input_height, input_width, cell)
    boxes = grid.boxes(np.arange(grid.cells))
    np.testing.assert_allclose(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum(), height * width)
    inside = (0.25 * boxes[:, :2] + 0.75 * boxes[:, 2:])[:, ::-1]
    rows, columns = grid.cells_at(inside).T
    np.testing.assert_array_equal(rows * grid.columns + columns, np.arange(grid.cells))
