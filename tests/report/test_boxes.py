import numpy as np

from sempre.report.figures import SIDE, VERMILLION, YELLOW, draw_boxes


def is_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == colour).all(-1)


def test_neighbours_share_an_outline_and_the_first_has_its_own():
    """Two cells side by side and one apart, of 16 px, in a micrograph of 160 px that is drawn four times as large."""
    boxes = np.array([[0, 0, 16, 16], [64, 64, 80, 80], [80, 64, 96, 80]], float)
    picture = draw_boxes(np.full((160, 160), 120, np.uint8), boxes)
    assert picture.shape == (SIDE, SIDE, 3)
    rows, columns = np.nonzero(is_colour(picture, VERMILLION))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 63, 0, 63)
    rows, columns = np.nonzero(is_colour(picture, YELLOW))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (256, 319, 256, 383)
    between = picture[270:306, 310:330]
    assert (between == 120).all(), "no line between neighbours"
    apart = draw_boxes(np.full((160, 160), 120, np.uint8), boxes, together=False)
    assert is_colour(apart[270:306, 310:330], YELLOW).any()
