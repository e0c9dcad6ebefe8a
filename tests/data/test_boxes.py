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
