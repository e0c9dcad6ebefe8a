"""A small synthetic set, and recipes as processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from sempre.images import write_labels
from sempre.synthetic import render_field
from sempre.training.run_folder import read_log
from tests.images.imaris import write_ims
from tests.in_process import run_here
from tests.warm import WarmProcess

ROOT = Path(__file__).parents[2]
FIELDS = (0, 2, 5, 6)  # seeds of fields with 4 to 17 particles


@pytest.fixture(scope="session")
def labelled_set(tmp_path_factory) -> Path:
    """Four fields of 192x192 px in `images/` and `labels/`."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for seed in FIELDS:
        field = render_field(seed, (192, 192))
        tifffile.imwrite(folder / f"images/field_{seed}.tif", field.pixels)
        write_labels(folder / f"labels/field_{seed}.tif", field.labels)
    return folder


@pytest.fixture(scope="session")
def bone(tmp_path_factory) -> Path:
    """Three samples as Imaris volumes of 6 slices of 72x80 px, 0.05 µm a px, 0.1 µm a slice: the last channel is the
    mask, the last but one the bright structure that it marks; before it one or two that show nothing."""
    folder = tmp_path_factory.mktemp("bone")
    for seed, name in enumerate("ACF"):
        random = np.random.default_rng(seed)
        smooth = ndimage.gaussian_filter(random.standard_normal((6, 72, 80)), (2, 6, 6))
        mask = smooth > np.quantile(smooth, 0.88)
        pixels = 900 + 900 * ndimage.gaussian_filter(mask.astype(float), (0, 1, 1)) + random.normal(0, 60, mask.shape)
        nothing = random.integers(0, 500, mask.shape)
        channels = [*[nothing] * (1 + seed % 2), pixels, mask * 65535]
        write_ims(folder / f"{name}.ims", np.stack(channels, axis=1).astype(np.uint16), slice_distance_um=0.1)
    return folder


@pytest.fixture(scope="session")
def run():
    """`run(script, *arguments, cwd=…)`: a recipe run in this process; its exit code and output as text.

    With further variables of the environment it is a process of its own.
    """

    def run_script(script: str, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
        if environment.items() <= os.environ.items():
            return run_here(script, *arguments, cwd=cwd)
        return subprocess.run(
            [sys.executable, str(ROOT / script), *map(str, arguments)],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | environment,
        )

    return run_script


@pytest.fixture(scope="session")
def store(labelled_set, run, tmp_path_factory) -> Path:
    """The fields as a store."""
    folder = tmp_path_factory.mktemp("store")
    finished = run("data/prepare.py", f"images={labelled_set}/images", "store=store.h5", "workers=1", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "store.h5"


def stop_and_resume(command: list[str], folder: Path, name: str) -> Path:
    """Start `command` in `folder`, stop it with SIGTERM at its first steps and start it again: the run's folder."""
    process = WarmProcess(command, folder)
    while process.poll() is None and not read_log(folder / "runs" / name / "log.jsonl"):
        time.sleep(0.05)
    process.terminate()
    stopped = process.finish()
    assert stopped.returncode in (75, 0), stopped.stderr  # 0 when the signal came after the last step
    finished = WarmProcess(command, folder).finish()
    assert finished.returncode == 0, finished.stderr
    return folder / "runs" / name


@pytest.fixture(scope="session")
def pretrained(store, run, tmp_path_factory) -> Path:
    """The folder of a short pretraining's run."""
    folder = tmp_path_factory.mktemp("pretraining")
    finished = run("pretrain/fcmae.py", f"store={store}", *SHORT_PRETRAINING, "name=whole", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "runs/whole"


def write_split(path: Path, train: list[str], validation: list[str]) -> Path:
    """A split file."""
    path.write_text(json.dumps({"train": train, "validation": validation}))
    return path


@pytest.fixture(scope="session")
def finished_unet(labelled_set, run, tmp_path_factory) -> Path:
    """The folder of a short run of the U-Net, beside the split file that it was trained by."""
    folder = tmp_path_factory.mktemp("unet")
    write_split(folder / "split.json", ["field_0", "field_2"], ["field_5", "field_6"])
    finished = run("finetune/unet.py", f"data={labelled_set}", *SHORT_UNET, cwd=folder, OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    return folder / "runs/refined"


SHORT_UNET = (
    "input=raw+heatmap+mask",
    "backbone=random:convnextv2_atto",
    "layer=-2",
    "size=96",
    "split_file=split.json",
    "name=refined",
    "width=4",
    "crop=32",
    "crops_an_epoch=8",
    "epochs=2",
    "workers=0",
)

SHORT_PRETRAINING = (
    "architecture=convnextv2_atto",
    "decoder_width=32",
    "crop=128",
    "batch=2",
    "epochs=3",
    "warmup_epochs=1",
    "workers=1",
    "panels=2",
)
