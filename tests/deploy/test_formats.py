import numpy as np
import pytest
import tifffile
from PIL import Image

from sempre.deploy.formats import SUFFIXES, parse_formats, result_paths
from sempre.deploy.micrograph_results import write_results
from sempre.deploy.segmenter import Segmentation
from sempre.errors import InputError
from sempre.images import write_label_png
from sempre.segmentation.particles import measure_particles


@pytest.mark.parametrize(("text", "formats"), [("tif", ("tif",)), ("CSV, rois,csv", ("csv", "rois"))])
def test_formats_are_a_list(text, formats):
    assert parse_formats(text) == formats


@pytest.mark.parametrize("text", ["", "tif,", "pdf", "tif csv"])
def test_an_unknown_format_names_the_known(text):
    with pytest.raises(InputError, match="give some of tif,png,csv,overlay,rois"):
        parse_formats(text)


def test_every_format_is_written_where_it_is_looked_for(tmp_path):
    labels = np.zeros((40, 50), np.int32)
    labels[10:20, 10:30] = 1
    segmentation = Segmentation(labels, measure_particles(labels, np.ones(1)))
    base = tmp_path / "low/a.b"
    write_results(base, tuple(SUFFIXES), labels, segmentation)
    assert set(result_paths(base, tuple(SUFFIXES))) == set((tmp_path / "low").iterdir())
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "low/a.b_instances.tif"), labels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "low/a.b_instances.png")), labels)


def test_a_png_of_more_particles_than_16_bits_count_is_refused(tmp_path):
    with pytest.raises(InputError, match="70000 particles, a PNG has 16 bits: write a TIFF"):
        write_label_png(tmp_path / "a.png", np.full((1, 1), 70_000))
