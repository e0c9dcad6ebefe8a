from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.training.cost_model import (
    CROP_BYTES,
    Machine,
    all_reduce_seconds,
    epoch_seconds,
    state_bytes,
    step_time,
)

MACHINE = Machine(
    images_a_second=100.0,
    network_bytes_a_second=1e10,
    network_latency=1e-5,
    storage_bytes_a_second=1e12,
    loader_crops_a_second=2000.0,
)


def test_one_gpu_computes_and_talks_to_nobody():
    step = step_time(MACHINE, 10**7, gpus=1, batch=200)
    assert (step.total, step.communication, step.bound) == (2.0, 0.0, "compute")


def test_communication_is_hidden_behind_the_backward_pass():
    seconds = all_reduce_seconds(MACHINE, 10**9, gpus=2)
    assert seconds == pytest.approx(0.4, rel=1e-3)
    assert step_time(MACHINE, 10**9, gpus=2, batch=200).communication == 0.0
    shown = step_time(replace(MACHINE, overlap=0.0), 10**9, gpus=2, batch=200)
    assert shown.total == pytest.approx(1.4, rel=1e-3)


def test_slow_storage_bounds_a_large_run():
    slow = replace(MACHINE, storage_bytes_a_second=100 * CROP_BYTES)
    step = step_time(slow, 10**6, gpus=64, batch=6400)
    assert (step.total, step.bound) == (64.0, "storage")


def test_a_share_of_the_state_and_what_is_gathered_make_the_memory():
    assert state_bytes(10**6) == 16e6
    assert state_bytes(10**6, gathered=10**5, gpus=8) == 2e6 + 8e5


@given(st.integers(0, 10), st.integers(1, 10**9))
def test_more_gpus_never_take_more_than_their_communication_more(doublings, parameters):
    gpus = 2**doublings
    few, many = (epoch_seconds(MACHINE, parameters, n, 4096, 10**6) for n in (gpus, 2 * gpus))
    steps = 10**6 // 4096
    assert many <= few + steps * all_reduce_seconds(MACHINE, parameters, 2 * gpus)
    assert many >= few / 2 - 1e-9
