"""The files that a scan leaves."""

import csv
import json

import numpy as np
import pytest
import tifffile

from sempre.errors import InputError
from sempre.images import read_micrograph
from sempre.scan.fields import Blob
from sempre.scan.outcome import (
    BLOB_COLUMNS,
    EFFICIENCY_COLUMNS,
    Curve,
    write_efficiency,
    write_map,
    write_quantification,
)
from sempre.scan.plan import PlanOptions, make_plan
from sempre.scan.preview import Calibration
from sempre.scan.protocol import (
    calibration_of,
    fields_of,
    protocol_of,
    read_protocol,
    schema,
    write_coordinates,
    write_protocol,
)

CALIBRATION = Calibration((256, 256), 10.0, (100.0, -50.0), 15.0)
DECISION = {"backbone": "intensity", "layer": 0, "weights": {"anomaly": 1.0}, "seed": 0}


@pytest.fixture
def protocol(preview, patches) -> dict:
    priority = np.random.default_rng(0).random(256).astype(np.float32)
    options = PlanOptions(threshold="quantile", quantile=0.97)
    plan = make_plan(patches, priority, options, CALIBRATION)
    return protocol_of(plan, preview, CALIBRATION, options, DECISION)


def test_the_protocol_follows_its_schema_and_comes_back(protocol, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    write_protocol(tmp_path / "scan_protocol.json", protocol)
    read = read_protocol(tmp_path / "scan_protocol.json")
    jsonschema.validate(read, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**read, "fields": [{}]}, schema())


def test_px_nm_and_stage_coordinates_of_a_protocol_agree(protocol, tmp_path):
    write_protocol(tmp_path / "scan_protocol.json", protocol)
    read = read_protocol(tmp_path / "scan_protocol.json")
    assert [field["order"] for field in read["fields"]] == list(range(1, len(read["fields"]) + 1))
    fields, calibration = fields_of(read), calibration_of(read)
    assert calibration == CALIBRATION
    stage = np.array([[field["stage_x_um"], field["stage_y_um"]] for field in read["fields"]])
    np.testing.assert_allclose(calibration.to_stage(fields.centres), stage)
    nm = np.array([[field["y_nm"], field["x_nm"]] for field in read["fields"]])
    np.testing.assert_allclose(nm, fields.centres * 10)
    assert read["seconds"] > sum(field["travel_s"] for field in read["fields"])
    (tmp_path / "bad.json").write_text('{"fields": []}')
    with pytest.raises(InputError, match=r"bad\.json is no scan protocol"):
        read_protocol(tmp_path / "bad.json")


def test_the_map_is_the_same_in_both_files_and_in_its_bytes(tmp_path):
    values = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    contents = []
    for _ in range(2):
        write_map(tmp_path, values, 2.5)
        contents.append([(tmp_path / name).read_bytes() for name in ("scan_map.npy", "scan_map.ome.tif")])
    assert contents[0] == contents[1]
    np.testing.assert_array_equal(np.load(tmp_path / "scan_map.npy"), values)
    micrograph = read_micrograph(tmp_path / "scan_map.ome.tif")
    np.testing.assert_array_equal(micrograph.pixels, values)
    assert micrograph.pixel_size_nm == 2.5
    with tifffile.TiffFile(tmp_path / "scan_map.ome.tif") as file:
        assert file.is_ome


def test_blobs_in_px_nm_and_um(tmp_path):
    blobs = [Blob(1, (128.0, 128.0), 100, 0.75)]
    write_quantification(tmp_path / "quantification.csv", blobs, CALIBRATION, {1: 3})
    with (tmp_path / "quantification.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == BLOB_COLUMNS
    assert float(row["area_nm2"]) == 100 * 100
    assert float(row["equivalent_diameter_nm"]) == pytest.approx(10 * np.sqrt(400 / np.pi), rel=1e-5)
    assert (float(row["stage_x_um"]), float(row["stage_y_um"])) == (100, -50)
    assert (row["mean_priority"], row["particles"]) == ("0.7500", "3")


def test_curves_as_rows(tmp_path):
    curve = Curve(np.array([0.0, 0.5]), np.array([0.1, 0.2]), np.array([3.0, 6.0]))
    write_efficiency(tmp_path / "efficiency.csv", {"planned": curve, "raster": curve})
    with (tmp_path / "efficiency.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == EFFICIENCY_COLUMNS
    assert [row["strategy"] for row in rows] == ["planned"] * 2 + ["raster"] * 2
    assert [float(row["coverage"]) for row in rows] == [0, 0.5, 0, 0.5]


def test_coordinates_for_other_programs(protocol, tmp_path):
    """SerialEM's autodoc sections are read as its help describes them, PyJEM takes nm, Swift m."""
    sections = write_coordinates(tmp_path, "serialem", protocol).read_text().split("[Item = ")
    assert sections[0].splitlines()[0] == "AdocVersion = 2.00"
    assert len(sections) - 1 == len(protocol["fields"])
    item = dict(line.split(" = ") for line in sections[1].splitlines()[1:] if line)
    first = protocol["fields"][0]
    assert float(item["PtsX"]) == pytest.approx(first["stage_x_um"], abs=1e-4)
    assert float(item["StageXYZ"].split()[1]) == pytest.approx(first["stage_y_um"], abs=1e-4)
    assert (item["Type"], item["Acquire"], item["NumPts"]) == ("0", "1", "1")
    with write_coordinates(tmp_path, "pyjem", protocol).open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["x_nm"]) == pytest.approx(1e3 * first["stage_x_um"], abs=0.1)
    swift = json.loads(write_coordinates(tmp_path, "swift", protocol).read_text())
    assert swift["positions"][0]["y"] == pytest.approx(1e-6 * first["stage_y_um"])
    with pytest.raises(InputError, match="coordinates=fei is unknown: choose serialem, pyjem, swift"):
        write_coordinates(tmp_path, "fei", protocol)
