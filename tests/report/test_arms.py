import json

import pytest

from sempre.errors import InputError
from sempre.files import write_json
from sempre.report.comparison_page import arms_table, error_reductions, read_arms, score_parts

ALL, NO_SMALL, NONE = (0, 1, 2), (1, 2), ()


def test_an_arm_holds_the_means_over_its_repeats(write_run, disc_set, tmp_path):
    run = write_run(tmp_path / "run", {"a": ALL, "b": NO_SMALL}, {"a": NONE, "b": NO_SMALL})
    (arm,) = read_arms({"ours": run}, disc_set)
    assert arm.aji_plus["a"] == 0.5
    assert arm.shown_aji_plus["a"] == 1.0
    # The discs are 10, 14 and 36 px wide: of the two micrographs' six, the repeats find five and two.
    assert arm.size_bins["true"] == [0, 4, 0, 2, 0, 0, 0]
    assert arm.size_bins["found"] == [0, 2, 0, 1.5, 0, 0, 0]
    assert arm.scores["correct"]["mean"] == 3.5


def test_runs_that_were_scored_before_there_were_sizes_are_counted_now(write_run, disc_set, tmp_path):
    run = write_run(tmp_path / "run", {"a": ALL, "b": NO_SMALL})
    (expected,) = read_arms({"ours": run}, disc_set)
    summary = json.loads((run / "summary.json").read_text())
    for repeat in summary["repeats"]:
        for scored in (repeat["summary"], *repeat["samples"].values()):
            del scored["size_bins"]
    write_json(run / "summary.json", summary)
    assert read_arms({"ours": run}, disc_set)[0].size_bins == expected.size_bins


def test_arms_are_compared_by_their_mean_error(write_run, disc_set, tmp_path):
    runs = {"half": write_run(tmp_path / "half", {"a": ALL, "b": NONE})}
    runs["all"] = write_run(tmp_path / "all", {"a": ALL, "b": ALL})
    assert error_reductions(read_arms(runs, disc_set))["all"] == {"half": 100.0}


def test_groups_have_tables_and_error_reductions_of_their_own(write_run, disc_set, tmp_path):
    groups = {"a": "low", "b": "high"}
    runs = {"half": write_run(tmp_path / "half", {"a": ALL, "b": NO_SMALL}, groups=groups)}
    runs["all"] = write_run(tmp_path / "all", {"a": ALL, "b": ALL}, groups=groups)
    arms = read_arms(runs, disc_set)
    assert error_reductions(arms, "high")["all"] == {"half": 100.0}
    assert error_reductions(arms, "low")["all"] == {"half": 0.0}
    page = "".join(score_parts(arms))
    assert "low: 1 micrographs" in page and "high: 1 micrographs" in page
    assert f"{arms[0].aji_plus['b']:.3f}" in arms_table(arms, "high")


def test_what_cannot_be_compared_is_said_in_one_line(write_run, disc_set, tmp_path):
    one, other = write_run(tmp_path / "one", {"a": ALL}), write_run(tmp_path / "other", {"b": ALL})
    with pytest.raises(InputError, match="were scored on different micrographs"):
        read_arms({"one": one, "other": other}, disc_set)
    with pytest.raises(InputError, match=r"has no summary\.json"):
        read_arms({"none": tmp_path / "none"}, disc_set)
    (tmp_path / "masks").mkdir()
    write_json(tmp_path / "masks/summary.json", {"scores": {"iou": 0.5}, "folds": {}})
    with pytest.raises(InputError, match="holds no scored repeats"):
        read_arms({"masks": tmp_path / "masks"}, disc_set)
    summary = json.loads((one / "summary.json").read_text())
    summary["repeats"][0]["samples"]["z"] = summary["repeats"][0]["samples"].pop("a")
    write_json(one / "summary.json", summary)
    with pytest.raises(InputError, match="was scored on z, which is not in"):
        read_arms({"one": one}, disc_set)
