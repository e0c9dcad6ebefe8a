"""Sharded weights train as whole ones do: the same losses, weights, left-out steps and checkpoints."""

import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from sempre.errors import InputError
from sempre.files import write_json
from sempre.ranges import check_ranges
from sempre.training.accelerator import Speed
from sempre.training.pretraining_run import PretrainingOptions, check_exchange, refuse_sharding
from sempre.training.run_folder import read_log
from tests.training.tiny_methods import SAMPLES, run_in_two_processes, tiny

WHOLE, SHARDED = Speed(), Speed(sharding="full")
SHORT = {"log_every": 1, "checkpoint_minutes": 0}
# Of two epochs, each a session of its own: under which speed.
TWO_EPOCHS = {
    "whole": (WHOLE, WHOLE),
    "whole, then sharded": (WHOLE, SHARDED),
    "sharded": (SHARDED, SHARDED),
    "sharded, then whole": (SHARDED, WHOLE),
}
# Of one epoch: method, precision, speed, the fit's options.
ONE_EPOCH = {
    "atto whole": ("atto", "float32", WHOLE, {}),
    "atto sharded": ("atto", "float32", SHARDED, {}),
    "small whole": ("fcmae", "float32", WHOLE, {}),
    "in parts": ("fcmae", "float32", SHARDED, {"accumulation": 2}),
    "uneven whole": ("fcmae", "float32", WHOLE, {"samples": 7}),
    "uneven in four parts": ("fcmae", "float32", SHARDED, {"accumulation": 4, "samples": 7}),
    "three samples whole": ("fcmae", "float32", WHOLE, {"samples": 3}),
    "three samples": ("fcmae", "float32", SHARDED, {"accumulation": 2, "samples": 3}),
    "bf16 gradients": ("fcmae", "float32", Speed(sharding="full", bf16_gradients=True), {}),
    "clipped whole": ("fcmae", "float32", WHOLE, {"clip_gradient": 0.02}),
    "clipped sharded": ("fcmae", "float32", SHARDED, {"clip_gradient": 0.02}),
    "bf16 whole": ("fcmae", "bf16", WHOLE, {}),
    "bf16 sharded": ("fcmae", "bf16", SHARDED, {}),
    "spark whole": ("spark", "float32", WHOLE, {}),
    "spark sharded": ("spark", "float32", SHARDED, {}),
}
SAME = {  # and how far apart, as a share
    "sharded": ("whole", 1e-5),
    "sharded, then whole": ("whole", 1e-5),
    "whole, then sharded": ("whole", 1e-5),
    "atto sharded": ("atto whole", 1e-5),
    "in parts": ("small whole", 1e-5),
    "uneven in four parts": ("uneven whole", 1e-5),
    "three samples": ("three samples whole", 1e-5),
    "bf16 gradients": ("small whole", 1e-2),
    "clipped sharded": ("clipped whole", 1e-5),
    "bf16 sharded": ("bf16 whole", 1e-3),
    "spark sharded": ("spark whole", 1e-5),
}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory) -> Path:
    """The folder with the runs of two processes."""
    folder = tmp_path_factory.mktemp("two")
    run_in_two_processes("tests.training.test_sharding", folder)
    return folder


def saved(run: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights, and the optimiser's state."""
    last = run / "checkpoints/last"
    return load_file(last / "model.safetensors"), torch.load(last / "optimizer.pt", weights_only=True)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_log(run / "log.jsonl")]


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The length of their difference as a share of the first's."""
    one, other = (torch.cat([parts[name].flatten().double() for name in sorted(parts)]) for parts in (one, other))
    return float((one - other).norm() / one.norm())


@pytest.mark.slow
@pytest.mark.parametrize("run", SAME)
def test_sharded_weights_learn_what_whole_ones_do(by_two, run):
    other, most = SAME[run]
    assert losses(by_two / run) == pytest.approx(losses(by_two / other), rel=most)
    assert distance(saved(by_two / other)[0], saved(by_two / run)[0]) < most


@pytest.mark.slow
def test_what_is_asked_of_sharded_gradients_is_done(by_two):
    small = saved(by_two / "small whole")[0]
    assert distance(small, saved(by_two / "clipped sharded")[0]) > 1e-4
    assert distance(small, saved(by_two / "bf16 gradients")[0]) > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("run", SAME)
def test_a_checkpoint_does_not_tell_that_weights_were_sharded(by_two, run):
    (weights, optimizer), (others, other_optimizer) = saved(by_two / run), saved(by_two / SAME[run][0])

    def forms(tensors: dict) -> list:
        return [(name, value.shape, value.dtype, type(value)) for name, value in tensors.items()]

    assert forms(weights) == forms(others)
    assert optimizer["param_groups"] == other_optimizer["param_groups"]
    assert optimizer["state"].keys() == other_optimizer["state"].keys()
    for number, values in optimizer["state"].items():
        assert forms(values) == forms(other_optimizer["state"][number])


@pytest.mark.slow
def test_each_process_holds_half_of_weights_gradients_and_moments(by_two):
    for rank in range(2):
        held = json.loads((by_two / f"held-{rank}.json").read_text())
        assert 0.49 < held["weights"] / held["all"] < 0.51
        assert held["gradients"] == pytest.approx(held["weights"], rel=1e-2)  # the head, which does not train, has none
        assert held["moments"] == pytest.approx(2 * held["gradients"])


@pytest.mark.slow
def test_a_step_that_one_process_has_no_finite_gradient_of_changes_nothing_in_either(by_two):
    assert [line["skipped"] for line in read_log(by_two / "spoilt/log.jsonl")] == [0, 0, 1, 0]
    for rank in range(2):
        changed = json.loads((by_two / f"changed-{rank}.json").read_text())
        assert changed == [True, True, False, True]


def test_what_sharded_weights_exclude_is_refused():
    def options(**given) -> PretrainingOptions:
        return PretrainingOptions(name="a", architecture="b", store="c", **given)

    for name in ("static_graph", "bucket_view", "compile"):
        with pytest.raises(InputError, match=f"sharding=full does without {name}=true"):
            check_exchange(options(sharding="full", **{name: True}))
    with pytest.raises(InputError, match="sharding=half is unknown: choose none or full"):
        check_ranges(options(sharding="half"))
    with pytest.raises(InputError, match="sharding=full cannot be had here, for a reason: leave it out"):
        refuse_sharding(options(sharding="full"), "a reason")
    check_exchange(options(sharding="full", bf16_gradients=True))
    refuse_sharding(options(), "a reason")


def held_by_a_process(folder: Path) -> None:
    """Write how many numbers this process holds after a step, and how many there are."""
    method, held = tiny("fcmae", SHARDED), {}

    def count(model, step: int) -> None:
        weights = list(model.parameters())
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        held.update(
            all=sum(weight.numel() for weight in weights),
            weights=sum(weight.to_local().numel() for weight in weights),
            gradients=sum(gradient.to_local().numel() for gradient in gradients),
        )

    method.fit(folder / "held", epochs=1, after_backward=count)
    values = [value for state in method.optimizer.state.values() for value in state.values()]
    held["moments"] = sum(value.to_local().numel() for value in values if isinstance(value, DTensor))
    write_json(folder / f"held-{torch.distributed.get_rank()}.json", held)


def spoilt_in_one_process(folder: Path) -> None:
    """Train four steps of whose third one process has a gradient with a NaN; write after which weights had changed."""
    method, weights = tiny("fcmae", SHARDED), []

    def spoil(model, step: int) -> None:
        weights.append([weight.to_local().detach().clone() for weight in model.parameters()])
        if step == 2 and torch.distributed.get_rank() == 1:
            model.encoder.network.stem[0].weight.grad.to_local().fill_(float("nan"))

    method.fit(folder / "spoilt", epochs=1, log_every=1, after_backward=spoil)
    weights.append([weight.to_local().detach().clone() for weight in method.model.parameters()])
    changed = [any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in pairwise(weights)]
    write_json(folder / f"changed-{torch.distributed.get_rank()}.json", changed)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for first in (WHOLE, SHARDED):
        goes_on = [run for run, speeds in TWO_EPOCHS.items() if speeds[0] is first]
        tiny("fcmae", first).fit(folder / goes_on[0], epochs=1, **SHORT)
        if torch.distributed.get_rank() == 0:
            for run in goes_on[1:]:
                shutil.copytree(folder / goes_on[0], folder / run)
        torch.distributed.barrier()
        for run in goes_on:
            tiny("fcmae", TWO_EPOCHS[run][1]).fit(folder / run, epochs=2, **SHORT)
    for run, (name, precision, speed, options) in ONE_EPOCH.items():
        samples = options.pop("samples", SAMPLES)
        tiny(name, speed, precision, samples).fit(folder / run, epochs=1, **SHORT, **options)
    held_by_a_process(folder)
    spoilt_in_one_process(folder)
