import pytest
import torch

from sempre.errors import InputError
from sempre.files import write_json
from sempre.models.dense import DenseOptions, DenseSegmenter, describe_dense, load_dense, read_settings, save_dense
from sempre.segmentation.decode import Decoding
from sempre.segmentation.maps import DenseSettings


def test_a_dense_segmenter_comes_back_with_its_settings(labelled, tmp_path):
    options = DenseOptions("unet_small")
    settings = DenseSettings(tile=512, scales=(0.5, 1.0), decoding=Decoding(0.4, 0.6, least_score=0.7))
    torch.manual_seed(0)
    model = DenseSegmenter(options)
    save_dense(tmp_path / "run", model, describe_dense(options, settings, labelled))
    loaded, details = load_dense(tmp_path / "run")
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in model.state_dict().items())
    assert read_settings(details) == settings
    assert details["kind"] == "dense" and details["percentiles"] == [2.0, 98.0]
    assert details["pixel_size_nm"] is None


@pytest.mark.parametrize("wrong", [{}, {"network": {"architecture": "resnet0"}}])
def test_details_of_another_model_are_refused_in_one_sentence(wrong, tmp_path):
    write_json(tmp_path / "model.json", wrong)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"model\.json describes no dense segmenter \(.+\): fine-tune it again"):
        load_dense(tmp_path)
