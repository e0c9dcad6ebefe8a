"""A step whose gradient is not finite changes nothing, is counted, and ends the run when it is one of many."""

import json

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sempre.data.samplers import EpochSampler
from sempre.errors import InputError
from sempre.training.optimisation import AveragedTraining
from sempre.training.run_folder import read_log
from sempre.training.steps import GuardedStep
from tests.training.tiny_methods import BATCH, SAMPLES, Method, tiny

METHODS = ["fcmae", "spark", "densecl", "dino"]


def spoil_gradients(method: Method, steps: range) -> list[dict]:
    """The gradients of these steps, the first is 0, will hold a NaN, though the losses are finite.

    What is returned is to be filled by `remember`, with the state before each step.
    """
    states = []
    spoilt = next(weight for weight in method.model.parameters() if weight.requires_grad)
    spoilt.register_hook(lambda gradient: gradient * float("nan") if len(states) - 1 in steps else gradient)
    return states


def remember(method: Method, states: list[dict]):
    """What the loop is to call before each step."""

    return lambda model, step: states.append(method.state())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", [0, 3])
def test_a_step_whose_gradient_is_not_finite_changes_nothing(name, bad, tmp_path):
    method = tiny(name)
    states = spoil_gradients(method, range(bad, bad + 1))
    progress = method.fit(tmp_path, before_step=remember(method, states))
    before, after = states[bad], states[bad + 1]
    assert not [key for key in before if not torch.equal(before[key], after[key])], "of moving averages neither"
    learns = [key for key in after if not torch.equal(after[key], states[bad + 2][key])]
    assert len(learns) > len(before) / 4, "the next step is taken"
    assert all(value.isfinite().all() for value in method.state().values())
    assert progress.skipped == 1
    lines = [line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "train"]
    assert [line["skipped"] for line in lines] == [int(number == bad // 2) for number in range(4)]


def test_averaged_weights_do_not_follow_a_step_that_is_left_out():
    torch.manual_seed(0)
    model = AveragedTraining(nn.Linear(2, 2), lambda answer: {"loss": answer.sum()}, 0.9)
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: model.follow())
    guard, states = GuardedStep(model, optimizer), []
    for bad in (False, True, False):
        guard.begin()
        model(image=torch.ones(1, 2))["loss"].backward()
        guard.step(torch.tensor(float("nan") if bad else 1.0))
        optimizer.zero_grad()
        states.append({name: value.clone() for name, value in model.average.state_dict().items()})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not any(torch.equal(value, states[2][name]) for name, value in states[1].items())


def test_ten_such_steps_in_a_row_end_the_run_and_nine_do_not(tmp_path):
    method = tiny("fcmae")
    states = spoil_gradients(method, range(2, 11))
    assert method.fit(tmp_path / "nine", epochs=3, before_step=remember(method, states)).skipped == 9

    method = tiny("fcmae")
    states = spoil_gradients(method, range(2, 100))
    with pytest.raises(InputError, match=r"the gradient is not finite for the 10th time in a row at step 12: .*lower"):
        method.fit(tmp_path / "ten", epochs=8, before_step=remember(method, states), checkpoint_minutes=0)
    bad = json.loads((tmp_path / "ten/bad_batch.json").read_text())
    sampler = EpochSampler(SAMPLES, BATCH, seed=3)
    sampler.set_epoch(2)
    assert bad["samples"] == [f"noise {sample}" for sample in sampler.global_batch(3)]
    again = tiny("fcmae")
    assert again.fit(tmp_path / "ten", epochs=3).step == 12
    assert all(value.isfinite().all() for value in again.state().values())


def test_steps_in_a_row_are_counted_through_a_stop(tmp_path):
    method = tiny("fcmae")
    method.fit(tmp_path, epochs=1, before_step=remember(method, spoil_gradients(method, range(100))))
    again = tiny("fcmae")
    with pytest.raises(InputError, match="at step 10"):
        again.fit(tmp_path, epochs=4, before_step=remember(again, spoil_gradients(again, range(100))))


class ReadsBack(TorchDispatchMode):
    """Counts how often Python asks for a tensor's value, for which it would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", METHODS)
def test_a_step_does_not_wait_for_the_device(name, tmp_path):
    counts = []
    with ReadsBack() as reads:
        tiny(name).fit(tmp_path, epochs=1, before_step=lambda *_: counts.append(reads.count), log_every=100)
    assert counts == 4 * [counts[0]], "values read up to each step"
