from sempre.metrics import size_bin_names
from sempre.report.model_card import aji_plus_of, model_card

BINS = len(size_bin_names())
SCORED = {
    "summary": {"size_bins": {"true": [0, 10] + [4] * (BINS - 2), "found": [0, 9] + [1] * (BINS - 2)}},
    "samples": {"a": {"aji_plus": 0.8}, "b": {"aji_plus": 0.6}},
}
ASKED = {
    "architecture": "unet_small",
    "start": "",
    "source": "my set (CC0)",
    "further_sources": ["another (MIT)"],
    "boxes_source": "boxes (MIT)",
    "renders": 40,
    "minutes": 12.4,
    "held_out": SCORED,
    "boxed": None,
    "others": {"another": SCORED},
    "rendered": [0.2, 0.3, 0.4],
    "aggregates": [0.1, 0.1, 0.4],
    "empty": 0.0512,
}


def test_the_card_says_what_was_measured():
    assert aji_plus_of(SCORED) == [0.8, 0.6]
    card = model_card(**ASKED)
    assert "unet_small" in card and "12 minutes" in card
    assert "my set (CC0), another (MIT), without the micrographs" in card
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert "| EMPS, held out | 2 | 0.700 ± 0.141 |" in rows
    assert "| another, held out | 2 | 0.700 |" in rows
    assert "| renders of other seeds | 3 | 0.300 |" in rows
    assert "| aggregates as soot forms them, rendered | 3 | 0.200 |" in rows
    assert f"| {size_bin_names()[0]} | 0 | 0% |" in rows, "none of that size"
    assert f"| {size_bin_names()[1]} | 10 | 90% |" in rows
    assert "fields 5.12% of the area" in card.replace("\n", " ")
    assert "boxes" not in card and "going on from" not in card


def test_boxes_and_the_release_before_are_named_where_there_are_any():
    boxed = SCORED | {"summary": {"correct": 3, "true_instances": 8}}
    card = model_card(**ASKED | {"boxed": boxed, "start": "particles"})
    assert "| ellipses in held-out boxes (38% found) | 2 | 0.700 |" in card.splitlines()
    assert "ellipses in the boxes of boxes (MIT)" in card
    assert "going on from particles" in card
