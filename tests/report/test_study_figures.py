from sempre.report.study_figures import image_curve_figure


def curve(*groups: str):
    points = {0: [0.38], 4: [0.35], 16: [0.36], 64: [0.31], 256: [0.34], 293: [0.37]}
    points, levels = (dict.fromkeys(groups, values) for values in (points, {"none": 0.38}))
    return image_curve_figure(points, dict.fromkeys(groups), levels).axes


def test_numbers_of_images_are_not_written_into_each_other():
    (axes,) = curve("unknown")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "4", "16", "64", "293"]


def test_a_panel_of_all_micrographs_has_no_title():
    (axes,) = curve("unknown")
    assert axes.get_title() == ""
    assert [axes.get_title() for axes in curve("high", "unknown")] == ["high", "unknown"]
