"""A run that could not begin leaves its name free, and what the message advises works."""

import pytest

from tests.recipes.conftest import SHORT_PRETRAINING

pytestmark = pytest.mark.slow

ATTO = ("architecture=convnextv2_atto", "workers=0", "epochs=1", "batch=2", "crop=64", "precision=float32")
SMALL = ("pyramid_channels=16", "box_head_width=16", "mask_head_layers=1", "proposals=20", "proposals_sampled=16")


@pytest.fixture
def obey(run, tmp_path):
    """A command with wrong options fails with code 2 and leaves no folder; with the right ones it runs to its end."""

    def try_both(script: str, wrong: tuple[str, ...], right: tuple[str, ...], message: str) -> None:
        refused = run(script, *wrong, "name=mine", cwd=tmp_path)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert message in refused.stderr and "Traceback" not in refused.stderr
        assert not (tmp_path / "runs/mine").exists()
        began = run(script, *right, "name=mine", cwd=tmp_path)
        assert began.returncode == 0, began.stderr
        assert (tmp_path / "runs/mine/config.yaml").is_file()

    return try_both


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("weights=nowhere.pth",), "nowhere.pth"),
        (("architecture=convnextv2_gigantic",), "convnextv2_gigantic"),
        (("crop=640",), "smaller than the 640 px crop"),
        (("batch=3", "accumulation=2"), "does not divide"),
    ],
)
def test_pretraining(obey, store, wrong, message):
    given = (f"store={store}", *SHORT_PRETRAINING)
    obey("pretrain/fcmae.py", (*given, *wrong), given, message)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("backbone=nowhere",), "nowhere"),
        (("architecture=convnextv2_gigantic",), "convnextv2_gigantic"),
        (("backbone=imagenet", "imagenet_weights=nowhere.pth"), "nowhere.pth"),
    ],
)
def test_fine_tuning(obey, labelled_set, wrong, message):
    given = (f"data={labelled_set}", *ATTO, *SMALL, "score_threshold=0.5")
    obey("finetune/mask_rcnn.py", (*given, *wrong), given, message)


def test_the_advice_for_a_backbone_of_another_network(obey, run, labelled_set, store, pretrained, tmp_path):
    given = (f"data={labelled_set}", *ATTO, *SMALL, "score_threshold=0.5")
    other = (*given, f"backbone={pretrained}/backbone", "architecture=convnextv2_femto")
    right = (*given, f"backbone={pretrained}/backbone", "architecture=convnextv2_atto")
    obey("finetune/mask_rcnn.py", other, right, "set architecture=convnextv2_atto, or give a backbone of")
    unet = ("architecture=unet_small", "decoder_width=16", "crop=64", "batch=2", "epochs=1", "workers=0", "name=unet")
    assert run("pretrain/spark.py", f"store={store}", *unet, cwd=tmp_path).returncode == 0
    refused = run("finetune/mask_rcnn.py", *given, "backbone=runs/unet/backbone", "name=u", cwd=tmp_path)
    assert "not a convnextv2_atto: give a backbone of convnextv2_atto" in refused.stderr
    assert not (tmp_path / "runs/u").exists()
