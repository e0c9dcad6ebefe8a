import pytest

from sempre.report.comparison_page import shown_micrographs, write_comparison_report

FOUND = ((0, 1, 2), (1, 2), (2,), ())


@pytest.mark.parametrize("arms", [1, 2, 4])
def test_a_page_has_every_arm_in_its_tables_and_on_every_micrograph(arms, write_run, disc_set, tmp_path):
    runs = {
        f"arm {n}": write_run(tmp_path / f"run_{n}", {"a": FOUND[n], "b": FOUND[0], "c": FOUND[1]}) for n in range(arms)
    }
    write_comparison_report(tmp_path / "page.html", disc_set.folder, runs)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figcaption>labels<") == 3
    for name in runs:
        assert f"<td>{name}</td>" in page
        assert page.count(f"<figcaption>{name}: AJI+ ") == 3
    assert ("against arm 0" in page) == (arms > 1)
    assert page.count("data:image/png;base64") == 2, "recall by size, score by micrograph"
    assert all(f": {name}, 80x80 px" in page for name in "abc")
    assert 'src="http' not in page


@pytest.mark.parametrize(
    ("count", "places"),
    [
        (1, ["Worst"]),
        (2, ["Worst", "Best"]),
        (3, ["Worst", "Median", "Best"]),
        (14, ["Worst", "Lower quartile", "Median", "Upper quartile", "Best"]),
    ],
)
def test_the_worst_the_median_and_the_best_are_shown(count, places):
    shown = shown_micrographs({f"m{n}": n / count for n in reversed(range(count))})
    assert list(shown) == places
    assert shown["Worst"] == "m0"
    assert len(set(shown.values())) == len(shown)
    if count > 1:
        assert shown["Best"] == f"m{count - 1}"
