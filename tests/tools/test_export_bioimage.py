"""Bundles as models of the BioImage Model Zoo, judged by its own library."""

import sys

import numpy as np
import pytest
import tifffile
import yaml

from sempre.deploy.released import find_bundle
from tests.deploy.conftest import bright_box_model, write_bundle
from tools.export_bioimage import main

core = pytest.importorskip("bioimageio.core", reason="the extra bioimageio is not installed")


@pytest.fixture
def export(monkeypatch):
    """`export("out=…")`: run the tool on the model that comes with sempre; its exit code."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["tools/export_bioimage.py", *map(str, options)])
        main()

    return run


def test_the_zoos_library_loads_runs_and_packs_the_model(export, tmp_path, capsys):
    from bioimageio.core import create_prediction_pipeline, load_description, test_model
    from bioimageio.core.digest_spec import create_sample_for_model

    out = tmp_path / "model"
    random = np.random.default_rng(0)
    pixels = random.normal(900, 60, (300, 410))
    rows, columns = np.ogrid[:300, :410]
    for y, x in ((90, 100), (200, 260), (120, 330)):
        pixels[(rows - y) ** 2 + (columns - x) ** 2 < 30**2] += 700
    tifffile.imwrite(tmp_path / "a.tif", pixels.clip(0, 65535).astype(np.uint16))
    export(f"out={out}", "name=Particles of mine", "authors=[A. Muster]", f"micrograph={tmp_path / 'a.tif'}")
    assert "passed by bioimageio.core" in capsys.readouterr().out

    summary = test_model(out / "rdf.yaml")
    assert summary.status == "passed", summary.display()
    model = load_description(out / "rdf.yaml")
    assert model.name == "Particles of mine" and [author.name for author in model.authors] == ["A. Muster"]
    described = yaml.safe_load((out / "rdf.yaml").read_text(encoding="utf-8"))
    assert described["license"] == "Apache-2.0"
    assert {path.name for path in out.iterdir()} >= {"rdf.yaml", "model.onnx", "test_input.npy", "test_output.npy"}

    # The library's own preprocessing and sizes, on an image that is not the test's, against the network itself.
    image = np.pad(np.load(out / "test_input.npy"), [(0, 0), (0, 0), (0, 64), (0, 32)], mode="reflect")
    sample = create_sample_for_model(model, inputs={"image": image})
    with create_prediction_pipeline(model) as pipeline:
        maps = pipeline.predict_sample_without_blocking(sample).members["maps"].data.to_numpy()
    low, high = np.percentile(image, (1, 99))
    import onnxruntime

    session = onnxruntime.InferenceSession(find_bundle(None) / "model.onnx", providers=["CPUExecutionProvider"])
    seen = np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
    (expected,) = session.run(None, {session.get_inputs()[0].name: seen})
    rows, columns = (side // 2 for side in image.shape[2:])
    assert expected.shape == (1, 2, rows, columns)
    crop = [(whole - side) // 2 for whole, side in zip(expected.shape[2:], maps.shape[2:], strict=True)]
    inner = expected[:, :, crop[0] : crop[0] + maps.shape[2], crop[1] : crop[1] + maps.shape[3]]
    # In 8-bit integers a rounding of the input moves some places by a step, and a few across the network's own limits.
    difference = np.abs(maps - inner)
    assert difference.mean() < 1e-3 and (difference > 0.1).mean() < 1e-3
    assert maps[0, 0].max() > 0.9, "the particles are there"


def test_what_cannot_be_exported_is_one_line_and_writes_nothing(export, tmp_path):
    from sempre.errors import InputError

    detector = write_bundle(tmp_path / "detector", bright_box_model())
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((100, 400), np.uint8))
    tifffile.imwrite(tmp_path / "blank.tif", np.full((300, 400), 7, np.uint8))
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    for options, told in (
        ([f"bundle={detector}"], "is a mask_rcnn"),
        (["authors=[]"], "names nobody"),
        ([f"micrograph={tmp_path / 'blank.tif'}"], "finds nothing in the test input"),
        ([f"micrograph={tmp_path / 'small.tif'}"], "is too small to test on"),
        ([f"out={tmp_path / 'there'}"], "is there already"),
    ):
        with pytest.raises(InputError, match=told):
            export(*([] if "out=" in options[0] else [f"out={tmp_path / 'out'}"]), *options)
    assert not (tmp_path / "out").exists()


def test_without_the_library_it_says_how_to_install_it(export, tmp_path, monkeypatch):
    from sempre.errors import InputError

    monkeypatch.setitem(sys.modules, "bioimageio.core", None)
    with pytest.raises(InputError, match=r"\[bioimageio\]"):
        export(f"out={tmp_path / 'out'}")
