"""In how many parts and processes a batch is computed changes no gradient."""

import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sempre.training.steps.parts import split_batch
from tests.training.tiny_methods import run_in_two_processes, tiny

METHODS, PARTS = ["fcmae", "densecl", "dino"], [1, 2, 4]
STEPS = 4
RATE = 1e-7  # so low that the weights of a later step are the same, and the gradient tells of banks and centres


def gradients(name: str, accumulation: int, folder: Path) -> dict[str, torch.Tensor]:
    """All gradients of the last of the first steps."""
    method, found = tiny(name), {}

    def keep(model, step: int) -> None:
        if step == STEPS - 1:
            named = model.named_parameters()
            found.update({key: weight.grad.clone() for key, weight in named if weight.grad is not None})

    method.fit(folder, epochs=1, accumulation=accumulation, after_backward=keep, rate=lambda step: RATE)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Each method's gradients in one part and one process."""
    return {name: gradients(name, 1, tmp_path_factory.mktemp(name)) for name in METHODS}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """The folder with two processes' gradients of each method and number of parts."""
    folder = tmp_path_factory.mktemp("two")
    run_in_two_processes("tests.training.steps.test_parts", folder)
    return folder


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """As vectors, to 1e-5 of their length."""
    assert one.keys() == other.keys()
    one, other = (torch.cat([parts[name].flatten().double() for name in sorted(parts)]) for parts in (one, other))
    assert one.norm() > 0
    assert (one - other).norm() <= 1e-5 * one.norm()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("accumulation", PARTS[1:])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(whole, name, accumulation, tmp_path):
    assert_same(whole[name], gradients(name, accumulation, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("accumulation", PARTS)
def test_two_processes_give_the_gradients_of_one(whole, by_two, name, accumulation):
    assert_same(whole[name], load_file(by_two / f"{name}-{accumulation}.safetensors"))


def test_parts_of_a_batch_weigh_what_they_hold():
    batch = {"x": torch.arange(5), "names": list("abcde")}
    parts = list(split_batch(batch, 2))
    assert [share for _, share in parts] == [0.6, 0.4]
    assert [part["names"] for part, _ in parts] == [["a", "b", "c"], ["d", "e"]]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, accumulation in product(METHODS, PARTS):
        run = f"{name}-{accumulation}"
        found = gradients(name, accumulation, folder / run)
        if torch.distributed.get_rank() == 0:
            save_file({key: value.contiguous() for key, value in found.items()}, folder / f"{run}.safetensors")
