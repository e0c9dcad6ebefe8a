import numpy as np

from sempre.frozen.prototypes import Clicks
from sempre.report.figures import BLUISH_GREEN, VERMILLION
from sempre.report.transfer_page import SIDE, draw_points


def test_points_are_drawn_where_they_were_clicked_each_sort_in_its_own_colour():
    """On a micrograph of twice the size that it is drawn at."""
    clicks = Clicks(np.array([[200.0, 300.0]]), np.array([[1000.0, 1200.0]]))
    drawn = draw_points(np.full((1100, 2 * SIDE), 90, np.uint8), clicks)
    assert drawn.shape == (550, SIDE, 3)
    for colour, place in ((BLUISH_GREEN, (100, 150)), (VERMILLION, (500, 600))):
        found = np.argwhere((drawn == colour).all(axis=-1))
        np.testing.assert_allclose(found.mean(axis=0), place, atol=1)
        assert np.abs(found - place).max() < 8, "nowhere else"
