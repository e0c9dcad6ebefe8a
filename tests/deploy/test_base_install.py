"""The base install, in an environment of its own without PyTorch, segments a micrograph."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_base_install_segments_without_torch(tmp_path, bright_box_bundle):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    programs = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = str(programs / "python")
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", str(ROOT)], check=True)
    listed = json.loads(subprocess.check_output([*pip, "list", "--format", "json"], text=True))
    packages = {package["name"].lower() for package in listed}
    assert "sempre" in packages
    assert not packages & {"torch", "torchvision", "timm", "lightly", "accelerate", "onnx", "omegaconf"}

    pixels = np.random.default_rng(0).integers(0, 60, (200, 300)).astype(np.uint8)
    pixels[40:90, 100:180] = 220
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    command = [
        "segment",
        "a.tif",
        "--model",
        str(bright_box_bundle),
        "--out",
        "out",
        "--imagej-rois",
        "--pixel-size-nm",
        "2",
    ]
    finished = subprocess.run(
        [str(programs / "sempre"), *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    labels = tifffile.imread(tmp_path / "out/a_instances.tif")
    assert labels.dtype == np.uint16
    assert (labels[40:90, 100:180] == 1).mean() > 0.95
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a_particles.csv", "a_overlay.png", "a_rois.zip", "size_distribution.png", "summary.csv"} <= written
