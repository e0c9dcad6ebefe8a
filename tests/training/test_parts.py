"""In how many parts and processes a batch is computed changes no gradient."""

import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sempre.data.samplers import EpochSampler
from sempre.training.steps import parts_of_all, split_batch
from tests.training.tiny_methods import SAMPLES, run_in_two_processes, tiny

METHODS, PARTS, UNEVEN_PARTS = ["fcmae", "densecl", "dino"], [1, 2, 4], [1, 4]
STEPS = 4
UNEVEN = 7  # samples of the only batch, four for one process and three for the other
RATE = 1e-7  # so low that the weights of a later step are the same, and the gradient tells of banks and centres


def gradients(name: str, accumulation: int, folder: Path, samples: int = SAMPLES) -> dict[str, torch.Tensor]:
    """All gradients of the last of the first steps."""
    method, found = tiny(name, samples=samples), {}

    def keep(model, step: int) -> None:
        if step == STEPS - 1:
            named = model.named_parameters()
            found.update({key: weight.grad.clone() for key, weight in named if weight.grad is not None})

    epochs = 1 if samples == SAMPLES else STEPS
    method.fit(folder, epochs=epochs, accumulation=accumulation, after_backward=keep, rate=lambda step: RATE)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Each method's gradients in one part and one process."""
    return {name: gradients(name, 1, tmp_path_factory.mktemp(name)) for name in METHODS}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """The folder with two processes' gradients of each method and number of parts."""
    folder = tmp_path_factory.mktemp("two")
    run_in_two_processes("tests.training.test_parts", folder)
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


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_unequal_shares_of_two_processes_give_the_gradients_of_one(by_two, name, tmp_path):
    whole = gradients(name, 1, tmp_path, UNEVEN)
    for accumulation in UNEVEN_PARTS:
        assert_same(whole, load_file(by_two / f"{name}-{accumulation}-uneven.safetensors"))


@given(st.integers(1, 200), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_all_ranks_compute_each_batch_in_as_many_parts(samples, ranks, share, parts, shuffle):
    samples = max(samples, ranks)
    samplers = [EpochSampler(samples, share * ranks, 0, rank, ranks, shuffle) for rank in range(ranks)]
    for number in range(samplers[0].batches()):
        of_all = samplers[0].global_batch(number)
        assert samplers[0].samples_of(number) == len(of_all)
        shares = [list(sampler)[number] if number < len(sampler) else [] for sampler in samplers]
        if not shuffle and not all(shares):
            continue  # validation, in which no rank waits for another before the end
        count = parts_of_all(len(of_all), ranks, parts)
        cut = [list(split_batch({"sample": share}, count)) for share in shares]
        assert {len(of_rank) for of_rank in cut} == {count}
        assert sorted(sample for of_rank in cut for part, _ in of_rank for _, sample in part["sample"]) == sorted(
            of_all
        )
        for of_rank in cut:
            assert sum(weight for _, weight in of_rank) == pytest.approx(1)
            sizes = [len(part["sample"]) for part, _ in of_rank]
            assert max(sizes) - min(sizes) <= 1 <= min(sizes)


def test_parts_of_a_batch_weigh_what_they_hold():
    batch = {"x": torch.arange(5), "names": list("abcde")}
    parts = list(split_batch(batch, 2))
    assert [share for _, share in parts] == [0.6, 0.4]
    assert [part["names"] for part, _ in parts] == [["a", "b", "c"], ["d", "e"]]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    runs = [(*run, SAMPLES, "") for run in product(METHODS, PARTS)]
    runs += [(*run, UNEVEN, "-uneven") for run in product(METHODS, UNEVEN_PARTS)]
    for name, accumulation, samples, kind in runs:
        run = f"{name}-{accumulation}{kind}"
        found = gradients(name, accumulation, folder / run, samples)
        if torch.distributed.get_rank() == 0:
            save_file({key: value.contiguous() for key, value in found.items()}, folder / f"{run}.safetensors")
