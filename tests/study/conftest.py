"""A planned study whose cells are stubs: each writes the scores that its own name stands for, after a while."""

from pathlib import Path

import pytest

from sempre.study.design import StudyOptions, plan_cells

# Stands in the place of every recipe. It takes its time in steps, keeps them as a recipe does, and goes on from there.
STUB = """
import hashlib, json, sys, time
from pathlib import Path
options = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
folder = Path("runs") / options["name"]
folder.mkdir(parents=True, exist_ok=True)
backbone = options.get("backbone", "none")
if "broken" in options or (backbone != "none" and not Path(backbone).exists()):
    sys.exit("error: this cell is broken")
steps = folder / "steps"
for step in range(int(steps.read_text() or 0) if steps.exists() else 0, 4):
    time.sleep(float(options.get("seconds", 0)))
    steps.with_suffix(".new").write_text(str(step + 1))
    steps.with_suffix(".new").replace(steps)
if "store" in options:
    (folder / "backbone").mkdir(exist_ok=True)
else:
    def score(name):
        draw = int(hashlib.sha256(f"{options['name'].split('/')[-1]}:{name}".encode()).hexdigest()[:6], 16) / 16**6
        counts = ["true_instances", "predicted_instances", "correct", "missed", "false_positives", "paired"]
        counts = dict.fromkeys(counts, 3)
        bins = dict.fromkeys(("true", "found", "false_positives"), [3])
        return {"aji_plus": 0.4 + draw / 2, "aji": 0.5, "panoptic_quality": 0.5, **counts, "size_bins": bins}
    samples = {name: score(name) for name in ("a", "b", "c", "d", "e", "f", "g")}
    (folder / "summary.json").write_text(json.dumps({"repeats": [{"samples": samples}]}))
"""


@pytest.fixture
def options() -> StudyOptions:
    return StudyOptions(
        name="s",
        arms=["none", "imagenet", "densecl", "fcmae"],
        sizes=["atto", "pico"],
        repeats=2,
        image_exponents=[-1],
        label_shares=[0.5],
        fcmae=["epochs=10", "batch=8", "warmup_epochs=1", "validate_every=5"],
        densecl=["epochs=10", "batch=8"],
        mask_rcnn=["epochs=4", "batch=2"],
        dense=["epochs=2", "batch=4", "crops_an_epoch=40"],
    )


@pytest.fixture
def stubs(tmp_path, monkeypatch) -> Path:
    """The folder that the stubs of the recipes lie in; the working folder is another, for `runs/`."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    for recipe in ("pretrain/fcmae", "pretrain/densecl", "finetune/mask_rcnn", "finetune/dense"):
        (root / recipe).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{recipe}.py").write_text(STUB)
    return root


@pytest.fixture
def cells(options):
    return plan_cells(options, Path("my_set"), Path("store.h5"), images=20, labelled=10)


@pytest.fixture
def baseline() -> dict[str, dict]:
    """The classical baseline's scores of the stubs' micrographs."""
    return {
        name: {"aji_plus": 0.5 + number / 50, "correct": 3, "missed": 2, "false_positives": 1}
        for number, name in enumerate("abcdefg")
    }
