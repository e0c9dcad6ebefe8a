"""Fine-tuning by reconstruction as a person runs it: what it leaves is a backbone like any other."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from finetune.reconstruction import Options, check
from sempre.errors import InputError
from sempre.frozen.encoder import open_encoder
from sempre.models.backbones import read_backbone_details

pytestmark = pytest.mark.slow


def test_a_run_leaves_a_backbone_whose_last_blocks_have_changed(pretrained, store, run, tmp_path):
    options = ["crop=64", "batch=2", "epochs=2", "warmup_epochs=0", "workers=0", "panels=1", "decoder_width=16"]
    arguments = [f"store={store}", f"backbone={pretrained}/backbone", "name=tuned", *options]
    finished = run("finetune/reconstruction.py", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "runs/tuned"
    details = read_backbone_details(folder / "backbone")
    assert (details.architecture, details.method) == ("convnextv2_atto", "reconstruction")
    before, after = (load_file(path / "backbone/backbone.safetensors") for path in (pretrained, folder))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert changed == {name for name in before if name.startswith("stages.3.blocks.")}, "atto's last stage has two"
    assert Image.open(folder / "figures/reconstructions.png").size == (64, 128)
    assert open_encoder(str(folder / "backbone")).architecture == "convnextv2_atto"


@pytest.mark.parametrize(
    ("backbone", "changes", "message"),
    [
        ("random:convnextv2_atto", {"crop": 100}, "crop=100 is no multiple of 32 px: take 96"),
        ("random:convnextv2_atto", {"architecture": "convnextv2_pico"}, "is a convnextv2_atto, not a convnextv2_pico"),
        ("intensity", {"architecture": "intensity"}, "backbone=intensity has nothing to fine-tune"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(backbone, changes, message):
    options = Options(store="", backbone=backbone, **({"architecture": "convnextv2_atto"} | changes))
    with pytest.raises(InputError, match=message):
        check(options, open_encoder(backbone))
