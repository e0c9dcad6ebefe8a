"""Install exactly the lower bounds of setup.py into an environment of its own, and run a short chain in it.

    python tools/lower_bounds.py                      # the environment goes to build/lower-bounds
    python tools/lower_bounds.py folder=/tmp/lower    # or elsewhere; it takes some 7 GB

The chain renders a set, prepares a store, pretrains, fine-tunes both segmenters, exports one and segments with it. What
fails here with the lowest versions fails for a user who has them: raise the bound in setup.py. Run it after a bound was
changed, and before a release; it takes minutes, and a network for the packages.
"""

import ast
import os
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

from sempre.config import read_options
from sempre.errors import InputError, run_command

ROOT = Path(__file__).parents[1]
LISTS = ("DEPLOYMENT", "TRAINING")  # of setup.py
ATTO = ("architecture=convnextv2_atto", "epochs=1", "workers=0", "precision=float32")
CHAIN = (
    ("data/synthesize.py", "out=set", "labelled=6", "unlabelled=8", "size=160", "workers=1"),
    ("data/prepare.py", "images=set/unlabelled", "store=store.h5", "workers=1"),
    ("pretrain/fcmae.py", "store=store.h5", "crop=64", "batch=4", "decoder_width=16", "warmup_epochs=0", *ATTO),
    ("pretrain/densecl.py", "store=store.h5", "crop=64", "field=128", "batch=4", "negatives=16", *ATTO),
    ("pretrain/dino.py", "store=store.h5", "field=128", "global_size=64", "local_size=32", "batch=4", *ATTO),
    (
        "finetune/dense.py",
        "data=set/labelled",
        "crop=64",
        "batch=4",
        "crops_an_epoch=8",
        "backbone=runs/fcmae/backbone",
        *ATTO,
    ),
    ("finetune/mask_rcnn.py", "data=set/labelled", "crop=64", "batch=2", "score_threshold=0.5", "proposals=50", *ATTO),
    ("tools/export_onnx.py", "run=runs/dense/repeat-0", "out=dense"),
    ("tools/export_onnx.py", "run=runs/mask_rcnn/repeat-0", "out=mask_rcnn"),
    ("sempre/deploy/command.py", "segment", "set/labelled/images", "--model", "dense", "--out", "of_dense"),
    ("sempre/deploy/command.py", "segment", "set/labelled/images", "--model", "mask_rcnn", "--out", "of_mask_rcnn"),
)


@dataclass
class Options:
    folder: str = str(ROOT / "build/lower-bounds")  # folder for the environment and for what the chain writes


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    folder = Path(options.folder).resolve()
    python = folder / "environment/bin/python"
    if not python.is_file():
        venv.create(folder / "environment", with_pip=True)
    run([str(python), "-m", "pip", "install", "--quiet", "setuptools>=68", *lower_bounds()], folder)
    for script, *arguments in CHAIN:
        run([str(python), str(ROOT / script), *arguments], folder)
    print(f"all of {', '.join(lower_bounds())} works")
    return 0


def lower_bounds() -> list[str]:
    """The requirements of setup.py, each at its lowest version, as in `timm==1.0.21`."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in LISTS
    }
    return [requirement.replace(">=", "==") for name in LISTS for requirement in lists[name]]


def run(command: list[str], folder: Path) -> None:
    """Raises: InputError when the command fails; its own message stands above."""
    print("$", *command, flush=True)
    code = subprocess.call(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)})
    if code:
        raise InputError(f"{Path(command[1]).name} ended with code {code} with the lower bounds of setup.py: raise one")


if __name__ == "__main__":
    run_command(main)
