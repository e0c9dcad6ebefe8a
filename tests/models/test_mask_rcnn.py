import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from sempre.models.mask_rcnn import DetectionLoss, DetectorOptions, build_mask_rcnn

SLIM = {"architecture": "convnextv2_atto", "pyramid_channels": 32, "box_head_width": 64, "mask_head_layers": 1}
SIDE = 512


@pytest.fixture(scope="module")
def anchors():
    """The detector's region proposal network, and its anchors in a micrograph of 512x512 px."""
    network = build_mask_rcnn(DetectorOptions(**SLIM)).rpn
    image = ImageList(torch.zeros(1, 1, SIDE, SIDE), [(SIDE, SIDE)])
    maps = [torch.zeros(1, 1, SIDE // stride, SIDE // stride) for stride in (4, 8, 16, 32, 64)]
    return network, network.anchor_generator(image, maps)


@pytest.mark.parametrize(("share", "positive"), [(0.25, 32), (0.5, 64)])
def test_the_heads_learn_from_as_many_positive_proposals_as_were_asked_for(share, positive):
    options = DetectorOptions(**SLIM, proposals_sampled=128, positive_share=share)
    particle = torch.tensor([[40.0, 40.0, 90.0, 90.0]])
    around, elsewhere = particle + 8 * torch.rand(200, 4), particle + 100
    targets = [{"boxes": particle, "labels": torch.tensor([1]), "masks": torch.ones(1, 200, 200, dtype=torch.uint8)}]
    proposals = [torch.cat([around, elsewhere.expand(200, 4)])]
    sampled, _, (labels,), _ = build_mask_rcnn(options).roi_heads.select_training_samples(proposals, targets)
    assert len(sampled[0]) == len(labels) == 128
    assert (labels == 1).sum() == positive


@pytest.mark.parametrize("shape", [(10, 10), (50, 50), (300, 300), (5, 40), (40, 5)])
def test_discs_and_rods_have_several_anchors_to_learn_from_wherever_they_lie(anchors, shape):
    network, everywhere = anchors
    width, height = shape
    for x in range(100, 164, 7):
        for y in range(100, 164, 9):
            target = {"boxes": torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32)}
            (labels,), _ = network.assign_targets_to_anchors(everywhere, [target])
            assert (labels == 1).sum() >= 4, (x, y)


def test_the_loss_is_the_sum_of_the_detectors():
    losses = {"loss_mask": torch.tensor(0.25), "loss_classifier": torch.tensor(1.5)}
    found = DetectionLoss(Answering(losses))(images=["image"], targets=["target"])
    assert found == {"loss": torch.tensor(1.75), **losses}


class Answering(torch.nn.Module):
    """A detector with an answer to one batch."""

    def __init__(self, answer: dict[str, torch.Tensor]):
        super().__init__()
        self.answer = answer

    def forward(self, images: list, targets: list) -> dict[str, torch.Tensor]:
        assert (images, targets) == (["image"], ["target"])
        return self.answer
