"""Planning a scan as a person does: from a preview's file to a protocol, and a simulated stage that follows it."""

import csv
import json
import sys

import jsonschema
import numpy as np
import pytest

from sempre.errors import InputError
from sempre.images.write import write_micrograph
from sempre.scan.fields import Fields
from sempre.scan.protocol import calibration_of, fields_of, read_protocol, schema
from sempre.synthetic.known_defects import render_sample
from tests.recipes.conftest import ROOT
from tools.scan import main

SIZE = (320, 320)
ARTEFACTS = ("scan_protocol.json", "efficiency.csv", "scan_map.npy", "scan_map.ome.tif", "quantification.csv")


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """`plan(*arguments)`: tools/scan.py in a folder with the preview `film.tif`, clicks on its first defect, and 1 px
    of 8 nm."""
    sample = render_sample("film", 3, SIZE)
    write_micrograph(tmp_path / "film.tif", sample.pixels, 8.0)
    click = sample.defects.sites[0].tolist()
    (tmp_path / "clicks.json").write_text(json.dumps({"film.tif": {"positive": [click]}}))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["scan.py", "preview=film.tif", "field_px=64", *arguments])
        main()

    run.sample, run.folder = sample, tmp_path
    return run


def test_a_preview_becomes_a_protocol_that_reaches_defects(plan, capsys):
    plan("out=scan", "threshold=none", "area_percent=30", "clicks=clicks.json", "coordinates=[serialem,swift]")
    assert "of the area" in capsys.readouterr().out
    folder = plan.folder / "scan"
    assert {path.name for path in folder.iterdir()} == {
        *ARTEFACTS,
        "scan.png",
        "config.yaml",
        "scan_serialem.nav",
        "scan_swift.json",
    }
    protocol = read_protocol(folder / "scan_protocol.json")
    assert protocol["decision"]["weights"] == {"anomaly": 1, "clicks": 1}
    assert protocol["preview"]["name"] == "film.tif"
    assert calibration_of(protocol).pixel_size_nm == pytest.approx(8, rel=1e-5)
    defects = plan.sample.defects
    reached = defects.weights @ fields_of(protocol).contain(defects.sites).any(axis=0)
    assert reached > 0.6
    with (folder / "efficiency.csv").open() as file:
        rows = list(csv.DictReader(file))
    planned = [float(row["area_share"]) for row in rows if row["strategy"] == "planned"]
    assert 0.1 < planned[-1] <= 0.3
    assert {row["strategy"] for row in rows} == {"planned", "raster", "serpentine", "random", "oracle"}
    assert np.load(folder / "scan_map.npy").shape == SIZE


def test_the_same_command_writes_the_same_bytes_and_counts_particles(plan):
    for out in ("first", "second"):
        plan(f"out={out}", "bundle=particles", "backbone=intensity")
    for name in ARTEFACTS:
        assert (plan.folder / "first" / name).read_bytes() == (plan.folder / "second" / name).read_bytes(), name
    with (plan.folder / "first/quantification.csv").open() as file:
        assert all(row["particles"].isdigit() for row in csv.DictReader(file))


def test_nothing_moves_before_the_moves_were_shown_and_go_was_given(plan, capsys):
    limits = "limits_um=[-2,-2,2,2]"
    arguments = ("out=scan", "backbone=intensity", "threshold=none", "area_percent=20", "driver=simulator")
    with pytest.raises(InputError, match="driver=simulator may go anywhere: give limits_um="):
        plan(*arguments)
    plan(*arguments, limits)
    assert "nothing has moved: add go=true" in capsys.readouterr().out
    assert not (plan.folder / "scan/log.jsonl").exists()
    plan(*arguments, limits, "go=true", "failures=0.3")
    printed = capsys.readouterr().out
    assert printed.index("field      x um") < printed.index("fields visited")
    events = [json.loads(line) for line in (plan.folder / "scan/log.jsonl").read_text().splitlines()]
    visited = [event for event in events if event["event"] == "visited"]
    assert len(visited) == len(list((plan.folder / "scan/fields").iterdir()))
    protocol = read_protocol(plan.folder / "scan/scan_protocol.json")
    done = Fields(np.array([[event["y_px"], event["x_px"]] for event in visited]), np.zeros(len(visited)), 64.0)
    assert np.isin(done.centres, fields_of(protocol).centres).all()
    with pytest.raises(InputError, match="moves leave limits_um="):
        plan(*arguments, "limits_um=[-0.01,-0.01,0.01,0.01]", "go=true")


def test_the_preset_of_the_document_writes_its_artefacts_and_its_teacher_needs_one_click(plan):
    """With a small network of random weights in the place of ImageNet's."""
    preset, small = str(ROOT / "configs/papers/deepscan.yaml"), "backbone=random:convnext_atto"
    plan("out=untaught", preset, small)
    assert {*ARTEFACTS} <= {path.name for path in (plan.folder / "untaught").iterdir()}
    protocol = read_protocol(plan.folder / "untaught/scan_protocol.json")
    assert protocol["decision"]["anomaly"] == "isolation_forest"
    assert protocol["decision"]["weights"] == {"anomaly": 1}
    with (plan.folder / "untaught/efficiency.csv").open() as file:
        planned = [float(row["area_share"]) for row in csv.DictReader(file) if row["strategy"] == "planned"]
    assert 0 < planned[-1] <= 0.15
    plan("out=taught", preset, small, "clicks=clicks.json", "anomaly_weight=0")
    assert read_protocol(plan.folder / "taught/scan_protocol.json")["decision"]["weights"] == {"clicks": 1}
    priority = np.load(plan.folder / "taught/scan_map.npy")
    y, x = map(int, plan.sample.defects.sites[0])
    assert priority[y, x] > np.quantile(priority, 0.95), "what was clicked is wanted most"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["coordinates=[fei]"], "coordinates=fei is unknown: choose serialem, pyjem, swift"),
        (["go=true"], "go=true, but nothing to go"),
        (["anomaly=odd", "backbone=intensity"], "anomaly=odd is unknown"),
        (["field_um=9", "backbone=intensity"], "no part of a preview of 320x320 px"),
        (["text=[cracks]", "backbone=intensity"], "give their folder, clip=FOLDER"),
        (["minutes=0.001", "backbone=intensity"], "no field fits into the budget"),
        (["backbone=nowhere"], "intensity nor particles"),
        (
            ["driver=nowhere:Stage", "limits_um=[-9,-9,9,9]", "go=true", "backbone=intensity"],
            "is neither simulator nor",
        ),
    ],
)
def test_what_cannot_be_gets_one_line(plan, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        plan("out=scan", *arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("by_hand", [False, True])
def test_pixels_of_a_preview_that_are_not_square(plan, capsys, by_hand):
    """Every second row of the preview says the same of the stage, to the size of a patch."""
    plan("out=square", "backbone=intensity", "threshold=none", "area_percent=30", "clicks=clicks.json")
    size = None if by_hand else (8.0, 16.0)
    write_micrograph(plan.folder / "film.tif", plan.sample.pixels[::2], size)
    (y, x), *_ = plan.sample.defects.sites.tolist()
    (plan.folder / "clicks.json").write_text(json.dumps({"film.tif": {"positive": [[y / 2, x]]}}))
    given = ("pixel_size_nm=8", "pixel_size_y_nm=16") if by_hand else ()
    plan("out=tall", "backbone=intensity", "threshold=none", "area_percent=30", "clicks=clicks.json", *given)
    assert "the preview's pixels are not square: 2 times its rows and 1 times its columns" in capsys.readouterr().out
    square, tall = (read_protocol(plan.folder / out / "scan_protocol.json") for out in ("square", "tall"))
    jsonschema.validate(tall, schema())
    assert tall["preview"]["enlarged"] == [2, 1] and "enlarged" not in square["preview"]
    assert (tall["preview"]["height_px"], tall["preview"]["width_px"]) == SIZE
    assert tall["field_of_view_um"] == pytest.approx(square["field_of_view_um"])
    defects = plan.sample.defects
    for protocol in (square, tall):
        assert defects.weights @ fields_of(protocol).contain(defects.sites).any(axis=0) > 0.5
        stage = np.array([(field["stage_x_um"], field["stage_y_um"]) for field in protocol["fields"]])
        assert np.abs(stage).max() <= 320 * 8 / 2e3


def test_a_height_alone_is_no_size(plan):
    with pytest.raises(InputError, match="is the height of a pixel alone"):
        plan("out=scan", "backbone=intensity", "pixel_size_y_nm=16")
