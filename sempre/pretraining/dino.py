"""The objective of DINO, self-distillation without labels: a student tells from a part what its teacher makes of more.

Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021. Loss, head and momentum update
are lightly's.
"""

import warnings
from math import log

import torch
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import update_momentum
from timm.optim import param_groups_weight_decay
from torch import Tensor, distributed, nn

from sempre.pretraining.collapse import teacher_entropy

HIDDEN, BOTTLENECK = 2048, 256  # widths of the projection head, as in the paper


class DINO(nn.Module):
    """Student and teacher; `forward(global_views [B, 2, C, S, S], local_views [B, L, C, s, s])` gives a dict.

    Of it, `loss` is the mean cross-entropy from the teacher's softmax of a global view to the student's of every other
    view; `teacher_entropy`, without gradient, is 1 when the teacher's answers are uniform, 0 when each is certain.
    Collapse ends at either. Both are in float32. The entropy is for the log alone: after `watch(False)` it is left out,
    but in validation (`eval()`).

    A training step is: set `momentum` and `teacher_temperature`, forward and backward (of one batch or of several parts
    of it), the optimiser's step, then `follow()`. So the teacher is up to date whenever it is validated or saved.

    Args:
        student, teacher: two headless timm networks of one architecture, the teacher's without drop path; it takes the
            student's weights over. An image is embedded by timm's own pooling: the class token of a vision transformer,
            the mean of a ConvNeXt's last map, both normalised.
        outputs: answers to choose from, the K of the paper.
        norm_last_layer: keep the last layer's rows at unit length, which is stabler; without, small ViTs get better.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, outputs: int = 65536, norm_last_layer: bool = True):
        super().__init__()
        self.student = Projected(student, outputs, norm_last_layer)
        # Built anew, since the head's weight norm cannot be copied.
        self.teacher = Projected(teacher, outputs, norm_last_layer)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.criterion = CentredLoss(outputs)
        self.momentum, self.teacher_temperature = 0.996, 0.04
        self.watched = True

    def watch(self, watched: bool) -> None:
        """Whether `teacher_entropy` is wanted of the steps to come."""
        self.watched = watched

    def forward(self, global_views: Tensor, local_views: Tensor | None = None) -> dict[str, Tensor]:
        with torch.no_grad():
            targets = self.teacher(global_views)
        groups = [global_views] if local_views is None else [global_views, local_views]
        answers = self.student(*groups)
        with torch.autocast(targets.device.type, enabled=False):
            targets, answers = targets.float(), answers.float()
            losses = {
                "loss": self.criterion(list(targets.unbind(1)), list(answers.unbind(1)), self.teacher_temperature)
            }
            if self.watched or not self.training:
                sharpened = (targets - self.criterion.center) / self.teacher_temperature
                losses["teacher_entropy"] = teacher_entropy(sharpened.flatten(0, 1))
        return losses

    @torch.no_grad()
    def follow(self) -> None:
        """After the optimiser's step: the teacher's weights follow the student's, the centre the teacher's outputs."""
        self.criterion.move_center()
        update_momentum(self.student, self.teacher, self.momentum)


class Projected(nn.Module):
    """A network and its projection head: groups of views, each `[B, V, C, H, W]`, to `[B, sum of V, K]`."""

    def __init__(self, network: nn.Module, outputs: int, norm_last_layer: bool):
        super().__init__()
        self.network = network
        width = network.num_features
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch's older weight norm
            self.head = DINOProjectionHead(width, HIDDEN, BOTTLENECK, outputs, norm_last_layer=norm_last_layer)

    def forward(self, *groups: Tensor) -> Tensor:
        embeddings = [self.network(views.flatten(0, 1)).unflatten(0, views.shape[:2]) for views in groups]
        return self.head(torch.cat(embeddings, dim=1))


class CentredLoss(DINOLoss):
    """lightly's loss, whose centre moves once a step, at `move_center`, however many parts the batch is computed in.

    In validation (`eval()`) it rests.
    """

    def __init__(self, outputs: int):
        super().__init__(outputs)
        self.total, self.count = 0.0, 0  # of the teacher's outputs since the centre last moved

    def update_center(self, teacher_out: Tensor) -> None:
        """Note the teacher's outputs `[V, B, K]`."""
        if self.training:
            self.total = self.total + teacher_out.sum((0, 1), keepdim=True)
            self.count += teacher_out.shape[0] * teacher_out.shape[1]

    def move_center(self) -> None:
        """Move towards the mean of the outputs noted, over all ranks, which may have noted unequal numbers of them."""
        if self.count:
            share = torch.ones_like(self.center[..., :1])
            if distributed.is_initialized():  # the call below averages over ranks: this one's share, of 1 on the mean
                counts = share * self.count
                distributed.all_reduce(counts)
                share = self.count * distributed.get_world_size() / counts
            super().update_center(share * self.total / self.count)
        self.total, self.count = 0.0, 0


def parameter_groups(model: DINO, weight_decay: float) -> list[dict]:
    """The optimiser's groups: biases and norms, which are not decayed; the other weights; the last layer's."""
    body = nn.ModuleList([model.student.network, model.student.head.layers])
    kept, decayed = param_groups_weight_decay(body, weight_decay)
    last_layer = [weight for weight in model.student.head.last_layer.parameters() if weight.requires_grad]
    return [kept, decayed, {"params": last_layer, "weight_decay": weight_decay}]


def momentum_for(batch: int) -> float:
    """The momentum that the teacher starts with, of a global batch.

    The authors' code has 0.996 for 1024 images and 0.9995 for 256; between them 1 - momentum is a power of the batch,
    beyond them it stays, for nothing is known there.
    """
    (small, slow), (large, fast) = (256, 0.9995), (1024, 0.996)
    power = log((1 - fast) / (1 - slow)) / log(large / small)
    return 1 - (1 - slow) * (min(max(batch, small), large) / small) ** power
