import numpy as np

from sempre.report.prototype_page import draw_heat_map


def test_the_highest_score_is_brightest_and_the_micrograph_shines_through():
    pixels = np.zeros((20, 30), np.uint8)
    pixels[:, 20:] = 200
    heat_map = np.zeros((20, 30), np.float32)
    heat_map[5:15, 5:15] = 0.3
    picture = draw_heat_map(pixels, heat_map)
    assert picture.shape == (20, 30, 3)
    assert picture[10, 10].sum() > picture[0, 0].sum() + 200
    assert picture[0, 25].sum() > picture[0, 0].sum() + 100
    np.testing.assert_array_equal(draw_heat_map(pixels, heat_map * 2 - 1), picture)


def test_a_map_of_one_score_is_drawn():
    assert draw_heat_map(np.full((4, 5), 255, np.uint8), np.full((4, 5), 0.3, np.float32)).shape == (4, 5, 3)
