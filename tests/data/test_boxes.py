"""Boxes around particles become labels."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.images import draw_ellipses, instance_boxes

SCRIPT = Path(__file__).parents[2] / "data" / "boxes.py"


def outline(monkeypatch, folder: Path, lines: str) -> None:
    """Run the recipe in this process on one micrograph of 40x80 px whose boxes are `lines`."""
    for name in ("images", "boxes"):
        (folder / "boxed" / name).mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "boxed/images/a.tif", np.arange(3200, dtype=np.uint16).reshape(40, 80))
    (folder / "boxed/boxes/a.txt").write_text(lines)
    run(monkeypatch, folder)


def run(monkeypatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["boxes.py", f"data={folder / 'boxed'}", f"out={folder / 'set'}"])
    spec = importlib.util.spec_from_file_location("boxes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["boxes"] = module
    spec.loader.exec_module(module)
    module.main()


def test_ellipses_fill_their_boxes_and_small_ones_lie_on_top():
    boxes = np.array([(10, 10, 30, 50), (18, 20, 24, 26), (60.0, -5, 70, 5)])
    labels = draw_ellipses(boxes, (64, 64))
    ids, found = instance_boxes(labels)
    assert ids.tolist() == [1, 2, 3]
    assert found.tolist() == [[10, 10, 30, 50], [18, 20, 24, 26], [60, 0, 64, 5]]
    assert np.count_nonzero(labels == 2) == pytest.approx(np.pi * 9, abs=4)
    assert np.count_nonzero(labels == 1) == pytest.approx(np.pi * 200 - np.pi * 9, rel=0.03)


def test_a_set_is_made_that_can_be_trained_on(tmp_path, monkeypatch, capsys):
    outline(monkeypatch, tmp_path, "0 0.25 0.5 0.25 0.5\n\n1 0.75 0.5 0.1 0.2\n")
    assert "2 particles" in capsys.readouterr().out
    micrograph = LabelledSet(tmp_path / "set").read(0)
    assert instance_boxes(micrograph.layers[0])[1].tolist() == [[10, 10, 30, 30], [56, 16, 64, 24]]


@pytest.mark.parametrize("lines", ["0 12 8 5 5", "0 0.5 0.5 nan 0.5", "round 0.5", "0 a b c d"])
def test_what_is_no_list_of_boxes_is_refused_by_name(tmp_path, monkeypatch, lines):
    with pytest.raises(InputError, match=r"a\.txt"):
        outline(monkeypatch, tmp_path, lines)


VOC = """<?xml version="1.0"?><annotation><filename>a.tif</filename><size><width>{width}</width><height>40</height>
<depth>1</depth></size><object><name>p</name><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>30</ymax>
</bndbox></object><object><name>p</name><bndbox><xmin>57.0</xmin><ymin>17</ymin><xmax>64</xmax><ymax>24</ymax></bndbox>
</object></annotation>"""


@pytest.mark.parametrize(
    ("images", "boxes"), [("images", "boxes"), ("JPEGImages", "Annotations"), ("images", "labels")]
)
def test_boxes_of_pascal_voc_become_ellipses_that_fill_them(tmp_path, monkeypatch, images, boxes):
    for name in (images, boxes):
        (tmp_path / "boxed" / name).mkdir(parents=True)
    tifffile.imwrite(tmp_path / f"boxed/{images}/a.tif", np.arange(3200, dtype=np.uint16).reshape(40, 80))
    (tmp_path / f"boxed/{boxes}/a.xml").write_text(VOC.format(width=80))
    run(monkeypatch, tmp_path)
    micrograph = LabelledSet(tmp_path / "set").read(0)
    assert instance_boxes(micrograph.layers[0])[1].tolist() == [[10, 10, 30, 30], [56, 16, 64, 24]]


def test_boxes_of_another_size_and_outlines_of_yolo_are_refused(tmp_path, monkeypatch):
    for content, name, reason in (
        (VOC.format(width=800), "a.xml", "40x800 px, but that beside it is 40x80 px"),
        (VOC.format(width=80).replace("xmin", "left"), "a.xml", "no box with xmin"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2\n", "a.txt", "YOLO's outlines"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "a.xml", "document type"),
    ):
        folder = tmp_path / str(len(content))
        for part in ("images", "boxes"):
            (folder / "boxed" / part).mkdir(parents=True)
        tifffile.imwrite(folder / "boxed/images/a.tif", np.arange(3200, dtype=np.uint16).reshape(40, 80))
        (folder / "boxed/boxes" / name).write_text(content)
        with pytest.raises(InputError, match=reason):
            run(monkeypatch, folder)


@pytest.mark.parametrize("place", ["Annotations/a.xml", "labels/a.xml", "images/a.xml", "labels/a.txt", "a.xml"])
def test_a_set_that_has_boxes_alone_is_refused_by_their_name(tmp_path, place):
    for name in ("images", Path(place).parent):
        (tmp_path / name).mkdir(exist_ok=True)
    tifffile.imwrite(tmp_path / "images/a.tif", np.arange(3200, dtype=np.uint16).reshape(40, 80))
    (tmp_path / place).write_text(VOC.format(width=80) if place.endswith("xml") else "0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=rf"{Path(place).name} holds \d box.* of .*data/boxes\.py"):
        LabelledSet(tmp_path)


def test_an_xml_of_the_microscope_beside_a_micrograph_is_no_list_of_boxes(tmp_path):
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images/a.tif", np.arange(3200, dtype=np.uint16).reshape(40, 80))
    (tmp_path / "images/a.xml").write_text("<MicroscopeImage><object/></MicroscopeImage>")
    with pytest.raises(InputError, match="has no labels"):
        LabelledSet(tmp_path)
