"""What a user can get wrong gives one clear line, a non-zero exit code and no traceback."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sempre.images import write_labels
from tests.deploy.conftest import write_bundle
from tests.recipes.conftest import SHORT_PRETRAINING

pytestmark = pytest.mark.slow


@pytest.fixture
def fails(run, tmp_path):
    """Run a command that must fail with code 2 and one line; the line is given back."""

    def run_and_read(script: str, *arguments: object, **environment: str) -> str:
        finished = run(script, *arguments, cwd=tmp_path, **environment)
        assert finished.returncode == 2, finished.stdout + finished.stderr
        assert "Traceback" not in finished.stderr
        errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, finished.stderr
        return errors[0]

    return run_and_read


def test_missing_and_empty_folders(fails, tmp_path):
    assert "nowhere is not a folder" in fails("data/prepare.py", "images=nowhere", "store=a.h5")
    (tmp_path / "empty").mkdir()
    assert "empty holds no micrographs" in fails("data/prepare.py", "images=empty", "store=a.h5")
    assert "nowhere does not exist" in fails("finetune/mask_rcnn.py", "data=nowhere")
    assert "nowhere.h5 does not exist" in fails("pretrain/fcmae.py", "store=nowhere.h5")
    assert "nowhere is not a folder" in fails("tools/score.py", "--pred", "nowhere", "--true", "nowhere")


def test_an_unknown_key_names_the_nearest(fails):
    assert "unknown option 'epoch' in epoch=3: did you mean 'epochs'?" in fails("pretrain/fcmae.py", "epoch=3")


def test_methods_that_take_no_shares_of_weights_say_so(fails):
    for recipe, *more in (["pretrain/dino.py"], ["pretrain/densecl.py"], ["pretrain/fcmae.py", "encoder=minkowski"]):
        assert "sharding=full cannot be had here, for " in fails(recipe, "store=a.h5", "sharding=full", *more)


def test_a_micrograph_smaller_than_the_crop(fails, store):
    message = fails("pretrain/fcmae.py", f"store={store}", "crop=640")
    assert "smaller than the 640 px crop" in message
    assert "192x192" in message


def test_labels_of_another_size_are_refused_before_the_training(fails, labelled_set, tmp_path):
    """Those of the micrograph that would be looked at hours later, and of one to train on."""
    for name in ("field_2", "field_0"):
        shutil.copytree(labelled_set, tmp_path / name)
        write_labels(tmp_path / name / f"labels/{name}.tif", np.zeros((100, 192), int))
        message = fails("finetune/mask_rcnn.py", f"data={name}", "epochs=1", "workers=0", "crop=64")
        assert f"{name}.tif is 192x192 px but its labels" in message
        assert "100x192" in message
        assert name != "field_2" or not (tmp_path / "runs").exists()


def test_a_backbone_of_another_architecture(fails, labelled_set, pretrained):
    arguments = [f"data={labelled_set}", f"backbone={pretrained}/backbone", "architecture=convnextv2_femto"]
    message = fails("finetune/mask_rcnn.py", *arguments, "workers=0", "crop=64", "epochs=1")
    assert "is a convnextv2_atto, not a convnextv2_femto" in message


def test_a_bundle_with_a_wrong_checksum(fails, tmp_path, labelled_set):
    bundle = tmp_path / "bundle"
    write_bundle(bundle, b"what was written", sha256="0" * 64)
    image = labelled_set / "images/field_0.tif"
    assert "is not the model that" in fails(
        "sempre/deploy/command.py", "segment", image, "--model", bundle, "--out", "out"
    )


def test_a_truncated_and_a_huge_tiff_among_good_ones_are_listed(run, labelled_set, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(labelled_set / "images", folder)
    whole = (folder / "field_0.tif").read_bytes()
    (folder / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    tifffile.imwrite(folder / "huge.tif", shape=(8, 8), dtype=np.uint8)
    with tifffile.TiffFile(folder / "huge.tif", mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(100_000)
    finished = run("data/prepare.py", f"images={folder}", "store=a.h5", "workers=1", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "a.h5.report.json").read_text())
    reasons = {Path(skipped["path"]).name: skipped["reason"] for skipped in report["skipped"]}
    assert "truncated" in reasons["truncated.tif"]
    assert "100000x100000 px" in reasons["huge.tif"]
    assert report["images"] == 4


def test_a_full_disk_while_saving(fails, store, tmp_path):
    """Files may grow to 2 MB and no further, as on a disk that is full: the checkpoint does not fit."""
    (tmp_path / "sitecustomize.py").write_text(
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
    )
    arguments = [f"store={store}", *SHORT_PRETRAINING, "validate_every=100"]
    message = fails("pretrain/fcmae.py", *arguments, "workers=0", PYTHONPATH=str(tmp_path))
    assert "File too large" in message or "free some space" in message
    assert not list(tmp_path.rglob("*.partial"))
