"""The plugin's panel off-screen, on a viewer's model, as a person clicks through it."""

import csv
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari", reason="needs the extra napari")
qtpy = pytest.importorskip("qtpy.QtWidgets", reason="needs a binding of Qt", exc_type=ImportError)

from napari.components import ViewerModel  # noqa: E402
from napari.layers import Image, Labels  # noqa: E402
from npe2 import PluginManifest  # noqa: E402
from qtpy.QtCore import QEvent  # noqa: E402

import sempre.napari  # noqa: E402
from sempre.data.labelled import LabelledSet  # noqa: E402
from sempre.data.labelled_folder import save_labelled  # noqa: E402
from sempre.deploy.released import find_bundle  # noqa: E402
from sempre.deploy.segmenter import Segmenter  # noqa: E402
from sempre.errors import InputError  # noqa: E402
from sempre.images import read_micrograph  # noqa: E402
from sempre.napari.layers import layer_pixel_size, micrograph_pixels  # noqa: E402
from sempre.napari.panel import Panel  # noqa: E402
from sempre.segmentation.particles import write_csv  # noqa: E402
from sempre.synthetic import render_field  # noqa: E402

SHORT = "architecture=unet_small crop=64 crops_an_epoch=8 batch=4 workers=0 precision=float32"


@pytest.fixture(scope="module")
def application():
    return qtpy.QApplication.instance() or qtpy.QApplication([])


@pytest.fixture
def panel(application):
    return Panel(ViewerModel())


def wait(application, condition, seconds=300):
    """Let Qt work until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        application.processEvents()
        time.sleep(0.01)


def render(seed: int, side: int = 192):
    return render_field(seed, (side, side))


def test_the_manifest_is_valid_and_its_widget_is_the_panel():
    manifest = PluginManifest.from_file(Path(sempre.napari.__file__).with_name("napari.yaml"))
    (command,) = manifest.contributions.commands
    assert command.python_name == f"{Panel.__module__}:{Panel.__name__}"
    assert [widget.command for widget in manifest.contributions.widgets] == [command.id]


def test_a_layer_is_segmented_as_by_the_library_and_its_features_are_the_csv(panel, application, tmp_path):
    pixels = render(5).pixels
    panel.viewer.add_layer(Image(pixels, name="field", scale=(2.0, 2.0), units=("nm", "nm")))
    assert panel.segmenting.pixel_size.value() == 2.0
    panel.segmenting.button.click()
    wait(application, panel.segmenting.button.isEnabled)
    assert panel.segmenting.bar.value() == panel.segmenting.bar.maximum() > 1
    expected = Segmenter(find_bundle(None)).segment(pixels, 2.0)
    labels = panel.viewer.layers["field particles"]
    assert np.array_equal(labels.data, expected.labels)
    assert expected.particles
    write_csv(tmp_path / "particles.csv", expected.particles, 2.0)
    with (tmp_path / "particles.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    features = labels.features.drop(columns="index")
    assert list(features.columns) == list(rows[0])
    written = [[float(value or "nan") for value in row.values()] for row in rows]  # what is not measured is empty
    assert np.allclose(features.to_numpy(float), written, equal_nan=True)
    assert panel.labels.currentData() is labels
    # By `index` napari finds a label's row.
    assert labels.features.set_index("index").loc[2, "area_px2"] == expected.particles[1].area


def test_a_panel_closed_while_it_segments_is_missed_by_nobody(application, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: raised.append(error[1]))  # by default PyQt aborts
    panel = Panel(ViewerModel())
    panel.viewer.add_layer(Image(render(5).pixels, name="field"))
    panel.segmenting.button.click()
    finished = []
    panel.segmenting.worker.finished.connect(lambda: finished.append(True))
    panel.deleteLater()
    application.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    wait(application, lambda: finished)
    assert not raised


def test_what_cannot_be_segmented_is_said(panel):
    panel.segmenting.button.click()
    assert "open a micrograph first" in panel.news.text()
    panel.viewer.add_layer(Image(np.zeros((3, 40, 50)), name="stack"))
    panel.segmenting.button.click()
    assert "(3, 40, 50)" in panel.news.text()


def test_saved_layers_are_a_labelled_set(panel, tmp_path):
    panel.training.folder.setText(str(tmp_path))
    for seed in (0, 2):
        field = render(seed)
        panel.viewer.add_layer(Image(field.pixels, name=f"field_{seed}", scale=(3.0, 3.0), units=("nm", "nm")))
        panel.viewer.add_layer(Labels(field.labels, name="by hand"))
        panel.training.save_button.click()
        assert "is saved" in panel.news.text()
    labelled = LabelledSet(tmp_path)
    assert labelled.names == ["field_0", "field_2"]
    assert np.array_equal(labelled.read(1).layers[0] > 0, render(2).labels > 0)
    assert labelled.common_pixel_size_nm() == pytest.approx(3.0, rel=1e-4)


def test_labels_are_renewed_but_no_other_micrograph_is_overwritten(tmp_path):
    field, other = render(0), render(2)
    save_labelled(tmp_path, "a", field.pixels, field.labels)
    save_labelled(tmp_path, "a", field.pixels, (field.labels == 1).astype(np.int32))
    assert LabelledSet(tmp_path).read(0).layers.max() == 1
    with pytest.raises(InputError, match="another micrograph"):
        save_labelled(tmp_path, "a", other.pixels, other.labels)
    with pytest.raises(InputError, match="no particle"):
        save_labelled(tmp_path, "b", field.pixels, np.zeros_like(field.labels))
    with pytest.raises(InputError, match="particles of b have one number: give each its own"):
        save_labelled(tmp_path, "b", field.pixels, (field.labels > 0).astype(np.int32))
    with pytest.raises(InputError, match="cannot be a file's name"):
        save_labelled(tmp_path, "../b", field.pixels, field.labels)


def test_colour_becomes_grey_and_a_layer_without_units_has_no_pixel_size():
    layer = Image(np.repeat(render(0).pixels[..., None], 3, axis=2), rgb=True)
    assert np.array_equal(micrograph_pixels(layer), render(0).pixels)
    assert layer_pixel_size(layer) is None


@pytest.mark.parametrize(
    ("scale", "units", "size"),
    [
        ((5.0, 2.5), ("nm", "nm"), (2.5, 5.0)),
        ((0.5, 2.0), ("Å", "pm"), (0.002, 0.05)),
        ((0.01, 0.02), ("µm", "um"), (20.0, 10.0)),
        ((5.0, 2.5), ("pixel", "pixel"), None),
    ],
)
def test_a_layer_has_a_pixel_size_in_x_and_y(scale, units, size):
    layer = Image(np.zeros((40, 50), np.uint8), scale=scale, units=units)
    assert layer_pixel_size(layer) == (None if size is None else pytest.approx(size))


def test_pixels_of_a_layer_that_are_not_square(panel, application, tmp_path):
    pixels = render(5).pixels
    panel.viewer.add_layer(Image(pixels, name="field", scale=(4.0, 2.0), units=("nm", "nm")))
    assert (panel.segmenting.pixel_size.value(), panel.segmenting.pixel_height.value()) == (2.0, 4.0)
    panel.segmenting.button.click()
    wait(application, panel.segmenting.button.isEnabled)
    features = panel.viewer.layers["field particles"].features
    assert np.allclose(features["area_nm2"], 8 * features["area_px2"], rtol=1e-5)
    panel.training.folder.setText(str(tmp_path))
    panel.viewer.add_layer(Labels(render(5).labels, name="by hand"))
    panel.training.save_button.click()
    assert read_micrograph(tmp_path / "images/field.tif").pixel_size == pytest.approx((2.0, 4.0), rel=1e-4)


@pytest.mark.slow
def test_a_fine_tuning_is_cancelled_goes_on_and_offers_its_bundle(panel, application, tmp_path):
    for seed in (0, 2):
        save_labelled(tmp_path, f"field_{seed}", render(seed, 96).pixels, render(seed, 96).labels)
    training, seen = panel.training, []
    training.fine_tuning.progressed.connect(lambda *progress: seen.append(progress))
    training.folder.setText(str(tmp_path))
    training.options.setText(SHORT)
    training.epochs.setValue(4)
    training.start_button.click()
    assert training.fine_tuning.running, panel.news.text()
    assert not training.start_button.isEnabled()
    wait(application, lambda: any(done > 0 and of == 8 for _, done, of in seen))
    training.cancel_button.click()
    wait(application, lambda: not training.fine_tuning.running)
    assert "cancelled" in panel.news.text()
    training.start_button.click()
    wait(application, lambda: not training.fine_tuning.running)
    bundle = tmp_path / "runs/napari_1/bundle"
    assert panel.segmenting.models.currentData() == str(bundle), panel.news.text()
    assert training.name.text() == "napari_2"
    assert Segmenter(bundle).segment(render(0, 96).pixels).labels.shape == (96, 96)


def test_why_a_fine_tuning_cannot_start_or_failed_is_said(panel, application, tmp_path):
    training = panel.training
    training.folder.setText(str(tmp_path))
    training.start_button.click()
    assert "has no labels" in panel.news.text()
