import numpy as np
import pytest

from sempre.report.figures import ARMS, arm_styles, recall_by_size, score_by_micrograph

TRUE = [0, 20, 5, 0, 40, 0, 0]
BINS = {
    "worse": {"true": TRUE, "found": [0, 5, 4, 0, 30, 0, 0], "false_positives": [0, 3, 0, 1, 0, 0, 0]},
    "better": {"true": TRUE, "found": [0, 10, 5, 0, 40, 0, 0], "false_positives": [0, 0, 0, 0, 0, 0, 0]},
}


def test_recall_is_a_line_an_arm_over_the_bins_that_hold_something():
    figure = recall_by_size(BINS)
    recall_axes, false_axes = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in recall_axes.lines}
    np.testing.assert_allclose(lines["worse"], [0.25, 0.8, np.nan, 0.75])
    np.testing.assert_allclose(lines["better"], [0.5, 1.0, np.nan, 1.0])
    np.testing.assert_array_equal(false_axes.lines[0].get_ydata(), [3, 0, 1, 0])
    ticks = [tick.get_text() for tick in false_axes.get_xticklabels()]
    assert ticks == ["8–16 px\n20 true", "16–32 px\n5 true", "32–64 px\n0 true", "64–128 px\n40 true"]


def test_a_recall_of_few_instances_is_hollow():
    recall_axes, _ = recall_by_size(BINS).axes
    hollow = [line for line in recall_axes.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata().tolist() for line in hollow] == [[0.8], [1.0]]


def test_nothing_at_all_is_drawn_without_an_error():
    recall_by_size({"empty": {name: [0] * 7 for name in ("true", "found", "false_positives")}}).canvas.draw()


@pytest.mark.parametrize("count", [1, 14, 70, 130])
def test_micrographs_are_in_the_order_of_the_last_arm(count):
    draws = np.random.default_rng(count)
    scores = {arm: {f"micrograph_{n}": draws.uniform() for n in range(count)} for arm in ("first", "last")}
    (axes,) = score_by_micrograph(scores).axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_array_equal(lines["last"], sorted(scores["last"].values()))
    names = sorted(scores["last"], key=scores["last"].get)
    np.testing.assert_array_equal(lines["first"], [scores["first"][name] for name in names])
    if count <= 100:
        assert [tick.get_text() for tick in axes.get_xticklabels()] == names


def test_arms_differ_in_colour_and_in_marker():
    styles = arm_styles("abcdef")
    assert len({style["color"] for style in styles.values()}) == len({s["marker"] for s in styles.values()}) == 6
    assert len(ARMS) == 6
