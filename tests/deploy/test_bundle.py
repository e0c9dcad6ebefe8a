import json

import pytest

from sempre.deploy.bundle import FEWEST_PROPOSALS, read_bundle
from sempre.errors import InputError


def test_reads_what_model_json_says(any_bundle):
    bundle = read_bundle(any_bundle(pixel_size_nm=2.5, tile=512, overlap=128, score_threshold=0.6))
    assert (bundle.tile, bundle.overlap, bundle.score_threshold, bundle.pixel_size_nm) == (512, 128, 0.6, 2.5)
    assert bundle.percentiles == (1, 99) and (bundle.low, bundle.high) == (0, 1)
    assert bundle.class_names == ("particle",) and bundle.model.name == "model.onnx"


def test_a_bundle_that_names_no_kind_or_proposals_is_an_old_mask_rcnn(any_bundle):
    bundle = read_bundle(any_bundle())
    assert (bundle.kind, bundle.proposals_per_tile) == ("mask_rcnn", FEWEST_PROPOSALS)


def test_a_kind_of_another_version(any_bundle):
    with pytest.raises(InputError, match="kind 'transformer'"):
        read_bundle(any_bundle(kind="transformer"))


def test_the_pixel_size_may_be_unknown(any_bundle):
    assert read_bundle(any_bundle()).pixel_size_nm is None


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        read_bundle(tmp_path / "absent")


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_missing_file(any_bundle, name):
    folder = any_bundle()
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"has no {name}"):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["{", "", b"\xff\xfe\x00"])
def test_damaged_json(any_bundle, text):
    folder = any_bundle()
    (folder / "model.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="no valid JSON"):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 2}'])
def test_unknown_format(any_bundle, text):
    folder = any_bundle()
    (folder / "model.json").write_text(text)
    with pytest.raises(InputError, match="format"):
        read_bundle(folder)


def test_another_model_than_described(any_bundle):
    folder = any_bundle()
    (folder / "model.onnx").write_bytes(b"another network")
    with pytest.raises(InputError, match="not the model"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tile", 0),
        ("tile", "large"),
        ("tile", float("inf")),
        ("tile", 1e300),
        ("input", {"percentiles": [1, 99], "low": 0, "high": "1e999"}),
        ("pixel_size_nm", float("inf")),
        ("overlap", 1024),
        ("input", None),
        ("input", {"percentiles": [99, 1], "low": 0, "high": 1}),
        ("score_threshold", 2),
        ("mask_threshold", None),
        ("pixel_size_nm", -1),
        ("class_names", 3),
        ("sha256", None),
    ],
)
def test_impossible_values(any_bundle, field, value):
    with pytest.raises(InputError, match=r"model\.json"):
        read_bundle(any_bundle(**{field: value}))


def test_absent_fields(any_bundle):
    folder = any_bundle()
    fields = json.loads((folder / "model.json").read_text())
    for name in set(fields) - {"format"}:
        (folder / "model.json").write_text(json.dumps({key: value for key, value in fields.items() if key != name}))
        with pytest.raises(InputError, match=name):
            read_bundle(folder)


def test_a_calibration_is_read_and_checked(any_bundle):
    dense = {
        "kind": "dense",
        "scales": [1.0],
        "decoding": {"foreground": 0.5, "marker": 0.5, "smallest": 12, "least_score": 0.5, "least_depth": 0.5},
    }
    calibration = {"weights": [-5, 2, 0.5, 0.5, 3], "interval": [-0.5, 0.75]}
    read = read_bundle(any_bundle(**dense, calibration=calibration)).calibration
    assert (read.weights, read.low, read.high) == ((-5, 2, 0.5, 0.5, 3), -0.5, 0.75)


@pytest.mark.parametrize("calibration", [{}, [], {"weights": [1, 2], "interval": [0, 1]}, {"weights": 3}, "yes"])
def test_a_calibration_that_cannot_be_is_refused(any_bundle, calibration):
    dense = {
        "kind": "dense",
        "scales": [1.0],
        "decoding": {"foreground": 0.5, "marker": 0.5, "smallest": 12, "least_score": 0.5, "least_depth": 0.5},
    }
    with pytest.raises(InputError, match="lacks or garbles"):
        read_bundle(any_bundle(**dense, calibration=calibration))
