import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn

SLIM = {"architecture": "convnextv2_atto", "pyramid_channels": 32, "box_head_width": 64, "mask_head_layers": 1}
SIDE = 512


@pytest.fixture(scope="module")
def anchors():
    """The detector's region proposal network, and its anchors in a micrograph of 512x512 px."""
    network = build_mask_rcnn(DetectorOptions(**SLIM)).rpn
    image = ImageList(torch.zeros(1, 1, SIDE, SIDE), [(SIDE, SIDE)])
    maps = [torch.zeros(1, 1, SIDE // stride, SIDE // stride) for stride in (4, 8, 16, 32, 64)]
    return network, network.anchor_generator(image, maps)


@pytest.mark.parametrize("shape", [(10, 10), (50, 50), (300, 300), (5, 40), (40, 5)])
def test_discs_and_rods_have_several_anchors_to_learn_from_wherever_they_lie(anchors, shape):
    network, everywhere = anchors
    width, height = shape
    for x in range(100, 164, 7):
        for y in range(100, 164, 9):
            target = {"boxes": torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32)}
            (labels,), _ = network.assign_targets_to_anchors(everywhere, [target])
            assert (labels == 1).sum() >= 4, (x, y)
