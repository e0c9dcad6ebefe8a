"""DINO's loss is the paper's, its teacher follows the student exactly, and neither parts of a batch nor validation
change anything."""

import copy

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from sempre.data.views import View
from sempre.pretraining import dino
from sempre.pretraining.dino import DINO, momentum_for, parameter_groups
from sempre.training.optimisation import set_rate
from sempre.training.run_folder import read_log
from tests.pretraining.textures import knn_accuracy, small_transformer, spacing_store, spacings, view_batches
from tests.training.tiny_methods import tiny

BATCH, LOCAL, OUTPUTS = 4, 3, 24


@pytest.fixture(autouse=True)
def narrow_head(monkeypatch):
    monkeypatch.setattr("sempre.pretraining.dino.HIDDEN", 128)


def small_network(seed: int = 0, architecture: str = "vit"):
    torch.manual_seed(seed)
    if architecture == "vit":
        return VisionTransformer(
            img_size=64,
            patch_size=16,
            in_chans=1,
            num_classes=0,
            embed_dim=24,
            depth=2,
            num_heads=3,
            dynamic_img_size=True,
        )
    return timm.create_model("convnextv2_atto", in_chans=1, num_classes=0, depths=(1, 1, 1, 1), dims=(8, 8, 16, 24))


def small_dino(architecture: str = "vit", outputs: int = OUTPUTS, **options) -> DINO:
    return DINO(small_network(0, architecture), small_network(1, architecture), outputs, **options)


def views(seed: int = 0, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((batch, 2, 1, 64, 64), (batch, LOCAL, 1, 32, 32))
    return tuple(torch.randn(size, generator=generator) for size in sizes)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def answers(branch: torch.nn.Module, *groups: Tensor) -> np.ndarray:
    """Logits `[B, views, K]`, one view after the other."""
    with torch.no_grad():
        logits = [branch.head(branch.network(group[:, view])) for group in groups for view in range(group.shape[1])]
    return torch.stack(logits, dim=1).double().numpy()


@pytest.mark.parametrize("architecture", ["vit", "convnextv2"])
def test_the_loss_is_the_papers(architecture):
    model = small_dino(architecture)
    model.teacher_temperature = 0.05
    centre = np.random.default_rng(0).normal(size=OUTPUTS)
    model.criterion.center.copy_(torch.from_numpy(centre))
    images = views()
    student, teacher = answers(model.student, *images), answers(model.teacher, images[0])
    targets = softmax((teacher - centre) / 0.05)
    terms, entropies = [], []
    for image in range(BATCH):
        for seen in range(2):
            target = targets[image, seen]
            entropies.append(-(target * np.log(target)).sum() / np.log(OUTPUTS))
            for other in range(2 + LOCAL):
                if other != seen:
                    terms.append(-(target * np.log(softmax(student[image, other] / 0.1))).sum())
    losses = model(*images)
    assert losses["loss"].item() == pytest.approx(np.mean(terms), rel=1e-4)
    assert losses["teacher_entropy"].item() == pytest.approx(np.mean(entropies), rel=1e-4, abs=1e-7)
    assert all(value.ndim == 0 for value in losses.values())
    assert not losses["teacher_entropy"].requires_grad

    model.follow()
    moved = 0.9 * centre + 0.1 * teacher.reshape(-1, OUTPUTS).mean(0)
    np.testing.assert_allclose(model.criterion.center.flatten(), moved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ["vit", "convnextv2"])
@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_every_student_parameter_and_no_teacher_parameter_has_a_gradient(architecture, norm_last_layer):
    """As DistributedDataParallel wants it, which waits for the gradient of all that asks for one."""
    model = small_dino(architecture, norm_last_layer=norm_last_layer)
    model(*views())["loss"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        frozen = name.startswith("teacher") or (norm_last_layer and name.endswith("weight_g"))
        assert parameter.requires_grad == (not frozen), name


def test_optimiser_groups_hold_each_trained_parameter_once():
    model = small_dino()
    kept, decayed, last_layer = parameter_groups(model, 0.04)
    grouped = [parameter for group in (kept, decayed, last_layer) for parameter in group["params"]]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, trained))
    assert kept["weight_decay"] == 0 and decayed["weight_decay"] == last_layer["weight_decay"] == 0.04
    assert [parameter.shape for parameter in last_layer["params"]] == [(OUTPUTS, 256)]


def test_the_teacher_starts_as_the_student_and_follows_it():
    model = small_dino()
    pairs = list(zip(model.student.parameters(), model.teacher.parameters(), strict=True))
    assert all(torch.equal(student, teacher) for student, teacher in pairs)
    before = [teacher.clone() for _, teacher in pairs]
    with torch.no_grad():
        for student, _ in pairs:
            student.add_(torch.randn_like(student))
    model.momentum = 0.9
    model.follow()
    for (student, teacher), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(teacher, 0.9 * old + 0.1 * student, rtol=1e-6, atol=1e-7)
    model.momentum = 1.0
    still = copy.deepcopy(model.teacher.network.state_dict())
    model.follow()
    assert all(torch.equal(weight, still[name]) for name, weight in model.teacher.network.state_dict().items())


def test_the_teachers_momentum_suits_the_batch():
    assert momentum_for(1024) == pytest.approx(0.996)
    assert momentum_for(256) == pytest.approx(0.9995)
    assert 0.996 < momentum_for(512) < 0.9995
    assert momentum_for(16) == momentum_for(256) and momentum_for(4096) == momentum_for(1024)


def test_the_centre_rests_in_validation_and_is_saved():
    model = small_dino().eval()
    model(*views())
    model.follow()
    assert not model.criterion.center.any()
    model.train()
    model(*views())
    model.follow()
    assert model.criterion.center.any()
    other = small_dino()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.criterion.center, model.criterion.center)


def test_a_batch_in_parts_moves_loss_and_centre_alike():
    whole, parts = small_dino(), small_dino()
    images = views()
    total = whole(*images)["loss"].item()
    whole.follow()
    sums = []
    for start, end in ((0, 3), (3, 4)):
        sums.append((end - start) * parts(*(group[start:end] for group in images))["loss"].item())
    parts.follow()
    assert sum(sums) / BATCH == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(parts.criterion.center, whole.criterion.center)


def test_softmax_and_centre_stay_in_float32_under_autocast():
    model = small_dino()
    images = views()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*images)
    model.follow()
    assert losses["loss"].dtype == losses["teacher_entropy"].dtype == model.criterion.center.dtype == torch.float32
    assert losses["loss"].item() == pytest.approx(small_dino()(*images)["loss"].item(), rel=0.02)


@pytest.fixture
def entropies(monkeypatch) -> list[float]:
    """The teacher's entropies, as they are computed."""
    computed, compute = [], dino.teacher_entropy

    def note(logits: Tensor) -> Tensor:
        value = compute(logits)
        computed.append(value.item())
        return value

    monkeypatch.setattr(dino, "teacher_entropy", note)
    return computed


def test_an_entropy_that_is_not_wanted_is_not_computed(entropies):
    model, images = small_dino(), views()
    watched = model(*images)
    model.watch(False)
    unwatched = model(*images)
    assert len(entropies) == 1
    assert unwatched.keys() == {"loss"}
    assert torch.equal(unwatched["loss"], watched["loss"])
    assert "teacher_entropy" in model.eval()(*images), "validation is always logged"


@pytest.mark.parametrize("accumulation", [1, 2])
def test_entropies_of_logged_steps_alone_are_computed(entropies, tmp_path, accumulation):
    always, sometimes = tiny("dino"), tiny("dino")
    always.fit(tmp_path / "always", log_every=3, accumulation=accumulation)
    of_each_step = np.reshape(entropies, (8, accumulation)).mean(1)
    entropies.clear()
    sometimes.fit(tmp_path / "sometimes", log_every=3, accumulation=accumulation, watch=DINO.watch)
    logged = [2, 3, 5, 7]  # every third step, and each epoch's fourth
    np.testing.assert_array_equal(np.reshape(entropies, (4, accumulation)).mean(1), of_each_step[logged])
    lines = [line for line in read_log(tmp_path / "sometimes/log.jsonl") if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [step + 1 for step in logged]
    assert [line["teacher_entropy"] for line in lines] == pytest.approx(of_each_step[logged])
    whole = [line["loss"] for line in read_log(tmp_path / "always/log.jsonl") if line["kind"] == "train"]
    assert [line["loss"] for line in lines] == whole
    assert all(torch.equal(value, sometimes.state()[name]) for name, value in always.state().items())


def test_global_views_alone_are_enough():
    model = small_dino()
    assert model(views()[0])["loss"].item() > 0


def train(model: DINO, images: tuple[Tensor, ...], steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.04))
    model.momentum = 0.97
    losses = []
    for step in range(steps):
        # The centre settles first, or the first answer of all would win.
        set_rate(optimizer, 1e-3 * min(1, step / 20) ** 2)
        loss = model(*images)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.follow()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("architecture", ["vit", "convnextv2"])
def test_four_images_are_learned_by_heart(architecture):
    """Images of one repeated pattern each: the loss falls tenfold, and every image has an answer of its own."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(BATCH, 1, 1, 16, 16, generator=generator)
    images = []
    for count, tiles in ((2, 4), (LOCAL, 2)):
        noise = torch.randn(BATCH, count, 1, 16 * tiles, 16 * tiles, generator=generator)
        images.append(patterns.repeat(1, count, 1, tiles, tiles) + 0.1 * noise)
    model = small_dino(architecture, outputs=64)
    losses = train(model, tuple(images), steps=50)
    assert losses[-1] < losses[0] / 10
    chosen = (model.teacher(images[0]) - model.criterion.center).argmax(-1)  # [B, 2]
    assert torch.equal(chosen[:, 0], chosen[:, 1])
    assert len(set(chosen[:, 0].tolist())) == BATCH


@pytest.mark.slow
def test_pretraining_tells_textures_better_than_a_random_network(tmp_path):
    torch.manual_seed(0)
    model = DINO(small_transformer(), small_transformer(), outputs=32)
    random = knn_accuracy(model.teacher.network, spacings)
    model.momentum = 0.9
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.04))
    still = {"brightness": 0.1, "contrast": 0.2, "blur": 0.0, "noise": 0.0}
    groups = {
        "global_views": (View(48, scale=(0.5, 1.0), **still), 2),
        "local_views": (View(24, scale=(0.2, 0.5), **still), 4),
    }
    for step, batch in enumerate(view_batches(spacing_store(tmp_path), groups, batch=16, steps=125)):
        set_rate(optimizer, 2e-3 * min(1, (step + 1) / 40) ** 2)
        model(**batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.student.parameters(), 3.0)
        optimizer.step()
        optimizer.zero_grad()
        model.follow()
    assert knn_accuracy(model.teacher.network, spacings) > random + 0.1
