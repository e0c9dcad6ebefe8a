"""The model that comes with sempre, on fields that no training saw."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from sempre.deploy.command import main
from sempre.deploy.released import find_weights, list_released
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from sempre.images import read_labels
from sempre.metrics import aji_plus
from sempre.segmentation.calibration import is_doubtful
from sempre.synthetic import FieldOptions, render_field

SIDE = 4  # fields along each side of the mosaic


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter("particles")


def test_it_is_small_and_brings_its_scores_and_weights():
    (released,) = [listed for listed in list_released() if listed.name == "particles"]
    assert released.size <= 20e6
    assert released.scores["held out"]["aji_plus"] >= 0.8
    assert (find_weights("particles") / "model.safetensors").stat().st_size <= 20e6


def test_a_folder_of_png_is_segmented_with_no_other_argument(tmp_path, capsys):
    field = render_field(3, (256, 320), FieldOptions(magnification="medium", kinds=("sphere",)))
    (tmp_path / "micrographs").mkdir()
    Image.fromarray(field.pixels).save(tmp_path / "micrographs/a.png")
    with pytest.raises(SystemExit) as ended:
        main(["segment", str(tmp_path / "micrographs"), "--out", str(tmp_path / "out")])
    assert not ended.value.code
    assert aji_plus(field.labels, read_labels(tmp_path / "out/a_instances.tif")) > 0.6
    assert {"a_particles.csv", "a_overlay.png", "summary.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.slow
def test_a_mosaic_finds_what_its_fields_find_alone(segmenter):
    """No cap, no seam: hundreds of particles are found whether seen in one picture or in sixteen."""
    options = FieldOptions(magnification="low", arrangement="dispersed", kinds=("sphere",), substrate="wafer", count=60)
    fields = [render_field(seed, (320, 320), options) for seed in range(SIDE**2)]
    alone = [segmenter.segment(field.pixels) for field in fields]
    apart = sum(len(one.particles) for one in alone)
    apart_score = np.mean([aji_plus(field.labels, one.labels) for field, one in zip(fields, alone, strict=True)])

    pixels = np.block([[field.pixels for field in fields[row : row + SIDE]] for row in range(0, SIDE**2, SIDE)])
    offsets = np.cumsum([0, *(field.labels.max() for field in fields[:-1])])
    numbered = [np.where(f.labels > 0, f.labels + offset, 0) for f, offset in zip(fields, offsets, strict=True)]
    true = np.block([numbered[row : row + SIDE] for row in range(0, SIDE**2, SIDE)])
    together = segmenter.segment(pixels)
    score = aji_plus(true, together.labels)
    found = f"{apart} apart, AJI+ {apart_score:.3f}; {len(together.particles)} together, {score:.3f}"
    print(f"{true.max()} particles: {found}")
    assert len(together.particles) == pytest.approx(apart, rel=0.03)
    assert score == pytest.approx(apart_score, abs=0.02)


def test_writing_on_an_empty_field_is_no_particle(segmenter):
    random = np.random.default_rng(0)
    image = Image.fromarray(random.normal(90, 12, (512, 640)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.text((20, 20), "(a)", fill=255, font=ImageFont.load_default(48))
    draw.text((470, 440), "200 nm", fill=255, font=ImageFont.load_default(36))
    draw.rectangle((460, 485, 610, 495), fill=255)
    assert (segmenter.segment(np.asarray(image)).labels > 0).mean() < 0.005


def test_a_model_that_is_neither_a_folder_nor_released_is_told_with_those_that_are():
    with pytest.raises(InputError, match=r"nosuch.*particles"):
        Segmenter("nosuch")


def test_structured_ground_is_doubted_and_a_field_of_particles_is_not(segmenter):
    """Where it finds anything on ground without particles."""
    for seed in (7_000_003, 7_000_006):
        field = render_field(seed, (512, 640), FieldOptions(count=0, variety="wide"))
        found = [particle.probability for particle in segmenter.segment(field.pixels).particles]
        assert len(found) < 5 or is_doubtful(np.array(found))
    field = render_field(5, (512, 640), FieldOptions(magnification="medium", kinds=("sphere",)))
    particles = segmenter.segment(field.pixels).particles
    assert not is_doubtful(np.array([particle.probability for particle in particles]))
    assert all(0 < one.equivalent_diameter_low <= one.equivalent_diameter_high for one in particles)
