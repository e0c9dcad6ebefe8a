"""What makes training faster computes the same."""

import sys
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch._dynamo.utils import counters

from sempre.errors import InputError
from sempre.training.accelerator import Speed, make_accelerator
from sempre.training.pretraining_run import PretrainingOptions, check_exchange
from tests.training.tiny_methods import run_in_two_processes, tiny

EXCHANGES = {  # how, in how many parts, and how far from one process's gradients
    "static": (Speed(static_graph=True, bucket_view=True), 1, (0, 1e-5)),
    "views": (Speed(bucket_view=True), 2, (0, 1e-5)),
    "bf16": (Speed(bf16_gradients=True), 1, (1e-5, 1e-2)),
}
METHODS = ["fcmae", "densecl", "dino"]


def gradients(name: str, folder: Path, speed: Speed | None = None, accumulation: int = 1) -> dict[str, torch.Tensor]:
    """Those of the second step, at a rate at which the weights stay what they are."""
    method, found = tiny(name, speed), {}

    def keep(model, step: int) -> None:
        if step == 1:
            named = model.named_parameters()
            found.update({key: weight.grad.clone() for key, weight in named if weight.grad is not None})

    method.fit(folder, epochs=1, accumulation=accumulation, after_backward=keep, rate=lambda step: 1e-7)
    return found


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The length of their difference as a share of the first's."""
    assert one.keys() == other.keys()
    one, other = (torch.cat([parts[name].flatten().double() for name in sorted(parts)]) for parts in (one, other))
    assert one.norm() > 0
    return float((one - other).norm() / one.norm())


def test_every_measure_is_an_option_of_the_pretraining_recipes():
    options = PretrainingOptions(name="a", architecture="b", store="c")
    assert {field.name: getattr(options, field.name) for field in fields(Speed)} == asdict(Speed())


def test_kernels_are_set_as_asked_and_compute_the_same_here(tmp_path):
    plain = gradients("fcmae", tmp_path / "plain")
    try:
        fast = gradients("fcmae", tmp_path / "fast", Speed(tf32=True, autotune=True))
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.benchmark
    finally:
        make_accelerator("float32")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.benchmark
    assert distance(plain, fast) < 1e-6


def test_the_masked_autoencoder_compiles_as_one_graph_of_the_same_gradients():
    torch._dynamo.reset()
    counters.clear()
    method = tiny("fcmae")
    batch = next(iter(method.loader()))
    method.model(**batch)["loss"].backward()
    plain = {name: weight.grad.clone() for name, weight in method.model.named_parameters() if weight.grad is not None}
    method.model.zero_grad()
    method.model.compile(backend="aot_eager", dynamic=False)
    method.model(**batch)["loss"].backward()
    compiled = {name: weight.grad for name, weight in method.model.named_parameters() if weight.grad is not None}
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1
    assert distance(plain, compiled) < 1e-5


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """The folder with two processes' gradients under each way of exchanging them."""
    folder = tmp_path_factory.mktemp("two")
    run_in_two_processes("tests.training.test_speed", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_exchange_the_gradients_of_one(by_two, name, tmp_path):
    whole = gradients(name, tmp_path)
    for exchange, (_, _, (least, most)) in EXCHANGES.items():
        assert least <= distance(whole, load_file(by_two / f"{name}-{exchange}.safetensors")) <= most, exchange


def test_a_static_graph_of_several_parts_is_refused():
    options = PretrainingOptions(name="a", architecture="b", store="c", static_graph=True, accumulation=2)
    with pytest.raises(InputError, match="accumulation=2"):
        check_exchange(options)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, (exchange, (speed, parts, _)) in product(METHODS, EXCHANGES.items()):
        run = f"{name}-{exchange}"
        found = gradients(name, folder / run, speed, parts)
        if torch.distributed.get_rank() == 0:
            save_file({key: value.contiguous() for key, value in found.items()}, folder / f"{run}.safetensors")
