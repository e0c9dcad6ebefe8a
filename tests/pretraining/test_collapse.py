import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sempre.pretraining.collapse import (
    active_channels,
    channel_distance,
    dead_channels,
    feature_statistics,
    rank_me,
    saturated_channels,
    teacher_entropy,
)


@pytest.fixture
def maps() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 16, 8, 8)


def test_rank_me_counts_the_directions_that_embeddings_take():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(32, 32))[0]
    for rank in (1, 5, 32):
        assert rank_me(basis[:, :rank] @ basis[:, :rank].T) == pytest.approx(rank, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 2**31))
def test_rank_me_is_the_papers_formula(samples, width, seed):
    embeddings = np.random.default_rng(seed).normal(size=(samples, width))
    singular = np.linalg.svd(embeddings, compute_uv=False)
    share = singular / np.abs(singular).sum() + 1e-7
    expected = np.exp(-np.sum(share * np.log(share)))
    assert rank_me(torch.from_numpy(embeddings)) == pytest.approx(expected, rel=1e-6)
    assert 1 <= rank_me(torch.from_numpy(embeddings)) <= min(samples, width) + 1e-3


def test_channel_distance_agrees_with_a_loop_over_pairs(maps):
    distances = []
    for image in maps.flatten(2).numpy():
        for one in range(16):
            for other in range(16):
                if one != other:
                    a, b = image[one], image[other]
                    distances.append((1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)) / 2)
    assert channel_distance(maps) == pytest.approx(np.mean(distances), abs=1e-6)
    assert channel_distance(maps[:, :1].expand(-1, 16, -1, -1)) == pytest.approx(0, abs=1e-6)


def test_dead_channels_are_not_active(maps):
    assert active_channels(maps) == 1.0
    maps[:, :4] = 7.0
    assert active_channels(maps) == 0.75
    assert active_channels(torch.zeros(2, 8, 4, 4)) == 0.0


def test_a_channel_is_dead_saturated_or_neither(maps):
    maps[:, 0] = 0.0
    maps[:, 1] = -3.0
    maps[:, 2] += 100.0  # on everywhere, and varies as much as the others
    maps[:, 3] = 0.001 * maps[:, 3] + 100.0
    assert dead_channels(maps).nonzero().flatten().tolist() == [0, 1, 3]
    assert saturated_channels(maps).nonzero().flatten().tolist() == [2]


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_what_is_dead_or_saturated_does_not_depend_on_the_unit(factor, seed):
    generator = torch.Generator().manual_seed(seed)
    scale, level = 10 ** torch.empty(2, 1, 16, 1, 1).uniform_(-4, 2, generator=generator)
    maps = scale * torch.randn(2, 16, 5, 6, generator=generator) + level
    for judge in (dead_channels, saturated_channels):
        torch.testing.assert_close(judge(maps), judge(factor * maps))


def test_teacher_entropy_is_one_when_uniform_and_zero_when_certain():
    assert teacher_entropy(torch.zeros(4, 10)) == pytest.approx(1.0)
    assert teacher_entropy(100 * torch.eye(10)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("architecture", ["convnextv2_atto", "vit_tiny_patch16_224"])
def test_statistics_of_a_network(architecture):
    torch.manual_seed(0)
    arguments = {"img_size": 64} if architecture.startswith("vit") else {}
    network = timm.create_model(architecture, in_chans=1, num_classes=0, **arguments).eval()
    images = torch.randn(4, 1, 64, 64)
    whole, parts = feature_statistics(network, [images]), feature_statistics(network, images.split(3))
    assert set(whole) == {"rank_me", "channel_distance", "active_channels"}
    assert whole == pytest.approx(parts, rel=1e-4)
