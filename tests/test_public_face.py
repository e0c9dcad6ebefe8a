"""The names that `import sempre` offers, and the page that shows them."""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sempre

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


@pytest.mark.parametrize("name", sempre.__all__)
def test_every_name_is_there_and_is_what_it_is_called(name):
    assert getattr(sempre, name).__name__ == name
    assert name in dir(sempre)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'segmenter'"):
        _ = sempre.segmenter


def test_names_of_earlier_days_are_still_there():
    from sempre.deploy.segmenter import Segmenter
    from sempre.models.packed import PackedEncoder

    assert Segmenter is sempre.Segmenter
    assert PackedEncoder is sempre.PackedEncoder


@pytest.mark.parametrize(
    ("former", "name", "now"),
    [
        ("sempre.data.labels.labelled", "LabelledSet", "sempre.data.labelled"),
        ("sempre.deploy.networks.segmenter", "Segmenter", "sempre.deploy.segmenter"),
        ("sempre.images.reading.read", "read_micrograph", "sempre.images.read"),
        ("sempre.images.synthetic", "render_field", "sempre.synthetic"),
        ("sempre.models.segmenters.mask_rcnn", "TimmPyramid", "sempre.models.mask_rcnn"),
        ("sempre.models.weights.checkpoints", "load_backbone", "sempre.models.backbones"),
    ],
)
def test_a_module_under_its_former_name_is_the_same_and_warns(former, name, now):
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=now):
        module = import_module(former)
    assert getattr(module, name) is getattr(import_module(now), name)
    assert module.__name__ == now


def test_what_the_microscopes_pc_uses_needs_no_torch():
    code = (
        "import sys, sempre; loaded = {'numpy', 'torch'} & set(sys.modules)\n"
        "from sempre import Segmenter, aji_plus, find_bundle, read_micrograph\n"
        "sys.exit(' '.join(loaded | ({'torch'} & set(sys.modules))) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_needs_an_extra_says_which():
    code = "import sys; sys.modules['torch'] = None; import sempre; sempre.PackedEncoder"
    finished = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert f"sempre.PackedEncoder needs torch: pip install -e '{PAGE.parents[1]}[train]'" in finished.stderr


def test_the_page_says_what_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grey = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    Image.fromarray(grey).save("micrograph.png")
    Path("micrographs").mkdir()
    for name in ("a", "b"):
        Image.fromarray(grey + len(name)).save(f"micrographs/{name}.png")
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert tried > 10
    assert not failed
