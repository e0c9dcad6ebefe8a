import pytest
import torch

from sempre.errors import InputError
from sempre.files import write_json
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn, describe_detector, load_detector, save_detector


def test_a_detector_comes_back_with_its_scale_and_threshold(labelled, tmp_path):
    options = DetectorOptions("convnextv2_atto", 16, 32, 1, detections=7)
    torch.manual_seed(0)
    model = build_mask_rcnn(options)
    save_detector(tmp_path / "run", model, describe_detector(options, 0.5, 0.35, labelled))
    loaded, details = load_detector(tmp_path / "run")
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in model.state_dict().items())
    assert loaded.roi_heads.detections_per_img == 7
    assert (details["scale"], details["score_threshold"]) == (0.5, 0.35)
    assert details["normalisation"]["percentiles"] == [2.0, 98.0]


@pytest.mark.parametrize("wrong", [{}, {"detector": []}])
def test_details_of_another_model_are_refused_in_one_sentence(wrong, tmp_path):
    write_json(tmp_path / "model.json", wrong)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"model\.json describes no detector \(.+\): fine-tune it again"):
        load_detector(tmp_path)
