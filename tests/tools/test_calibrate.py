"""The calibration of a bundle, on a network that takes what is bright for particles."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from sempre.deploy.released import find_bundle
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from tests.deploy.conftest import bright_box_model, write_brightness_bundle, write_bundle
from tools.calibrate import main, weighted_quantiles


@pytest.fixture
def bundle(tmp_path):
    return write_brightness_bundle(tmp_path / "bundle")


def blurred_discs(random, side=256):
    """Discs of two brightnesses, whose radii are labelled 4 % wrong or so; the dim ones are not labelled."""
    y, x = np.mgrid[:side, :side]
    pixels, labels = np.full((side, side), 30.0), np.zeros((side, side), np.uint16)
    for number in range(16):
        cy, cx = 32 + 64 * (number // 4), 32 + 64 * (number % 4)
        distance, radius = np.hypot(y - cy, x - cx), random.uniform(8, 24)
        real = random.random() < 0.7
        pixels[distance <= radius] = random.uniform(190, 230) if real else random.uniform(150, 200)
        if real:
            labels[distance <= radius * np.exp(0.04 * random.standard_normal())] = number + 1
    return np.clip(gaussian_filter(pixels, 2) + random.standard_normal((side, side)), 0, 255).astype(np.uint8), labels


@pytest.fixture
def labelled(tmp_path):
    random = np.random.default_rng(0)
    for number in range(24):
        for folder, picture in zip(("images", "labels"), blurred_discs(random), strict=True):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / "set" / folder / f"{number:02}.png")
    return tmp_path / "set"


def calibrate(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["calibrate.py", *map(str, arguments)])
    main()


def test_a_calibrated_bundle_tells_probabilities_and_intervals(bundle, labelled, monkeypatch, capsys):
    pixels, _ = blurred_discs(np.random.default_rng(7))
    (before, *_) = Segmenter(bundle).segment(pixels, 2.0).particles
    assert (before.probability, before.equivalent_diameter_low) == (None, None)
    calibrate(monkeypatch, f"data={labelled}", f"bundle={bundle}", "validation_fraction=0.99", "force=true")
    checked = json.loads((bundle / "model.json").read_text())["calibration"]["checked"]
    assert f"coverage {checked['coverage']:.3g}" in capsys.readouterr().out
    assert 0.8 <= checked["coverage"] <= 0.98 and checked["calibration_error"] < 0.1
    # On further micrographs, by a count of our own.
    random, inside, real, probable = np.random.default_rng(5), [], [], []
    for _ in range(12):
        pixels, labels = blurred_discs(random)
        found = Segmenter(bundle).segment(pixels, 2.0)
        for particle in found.particles:
            here = labels[found.labels == particle.id]
            label = np.bincount(here[here > 0]).argmax() if here.any() else 0
            real.append(label > 0)
            probable.append(particle.probability)
            if label:
                diameter = 2 * np.sqrt((labels == label).sum() / np.pi)
                inside.append(particle.equivalent_diameter_low <= diameter <= particle.equivalent_diameter_high)
    assert 0.8 <= np.mean(inside) <= 0.98
    assert np.mean(probable) == pytest.approx(np.mean(real), abs=0.08)
    real, probable = np.array(real), np.array(probable)
    assert probable[real].mean() > probable[~real].mean() + 0.3


def test_what_cannot_be_calibrated_is_refused(bundle, labelled, tmp_path, monkeypatch):
    before = (bundle / "model.json").read_bytes()
    with pytest.raises(InputError, match="mask_rcnn"):
        detector = write_bundle(tmp_path / "detector", bright_box_model())
        calibrate(monkeypatch, f"data={labelled}", f"bundle={detector}")
    for path in (labelled / "labels").iterdir():  # labels that fit nothing
        Image.fromarray(np.pad(np.ones((4, 4), np.uint16), [(0, 252), (0, 252)])).save(path)
    with pytest.raises(InputError, match="give a larger set"):
        calibrate(monkeypatch, f"data={labelled}", f"bundle={bundle}", "validation_fraction=0.99")
    assert (bundle / "model.json").read_bytes() == before


def test_weighted_quantiles_of_equal_weights_are_the_usual_ones():
    values = np.random.default_rng(0).standard_normal(999)
    found = weighted_quantiles(values, np.ones(999), (0.05, 0.5, 0.95))
    assert found == pytest.approx(np.quantile(values, (0.05, 0.5, 0.95), method="hazen"))


def test_the_released_bundle_is_calibrated():
    checked = json.loads((find_bundle() / "model.json").read_text())["calibration"]["checked"]
    assert 0.85 <= checked["coverage"] <= 0.95 and checked["calibration_error"] < 0.1
