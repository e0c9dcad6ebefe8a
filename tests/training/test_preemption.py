"""Signals are answered within seconds, whatever is being done, and what was stopped goes on as if it had not been."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from sempre.errors import InputError
from sempre.training.preemption import EXIT_PREEMPTED, LOOK_SECONDS, Lookout, Stopped, StopSignal
from sempre.training.run_folder import read_log
from sempre.training.validation import mean_losses
from tests.training.tiny_methods import tiny

ROOT = Path(__file__).parents[2]


def raise_signal() -> None:
    signal.raise_signal(signal.SIGUSR1)


def validation_of(method, stop: StopSignal, calls: list, signal_at: int = -1, accumulation: int = 1):
    """A validation over four batches, the `signal_at`-th call of the model of which a signal arrives in."""

    def counted(**batch):
        calls.append(len(next(iter(batch.values()))))
        if len(calls) - 1 == signal_at:
            raise_signal()
        return method.model(**batch)

    def validate(model, log, step) -> dict[str, float]:
        return mean_losses(counted, method.loader(shuffle=False), method.accelerator, accumulation, stop)

    return validate


def fit_with_validation(folder, signal_at: int = -1, **options) -> tuple[object, dict, list[int]]:
    method, stop, calls = tiny("fcmae"), StopSignal(), []
    progress = method.fit(
        folder, epochs=2, stop=stop, validate=validation_of(method, stop, calls, signal_at), **options
    )
    return progress, method.state(), calls


def test_validation_stops_in_its_midst_and_is_done_again(tmp_path):
    whole, state, calls = fit_with_validation(tmp_path / "whole")
    assert (whole.epoch, len(calls)) == (2, 8)
    stopped, _, calls = fit_with_validation(tmp_path / "stopped", signal_at=1)
    assert stopped is None
    assert len(calls) == 2, "it does not go on to its end"
    resumed, again, calls = fit_with_validation(tmp_path / "stopped")
    assert (resumed.epoch, resumed.best, len(calls)) == (2, whole.best, 8)
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    for kind in ("train", "validation"):
        lines = [
            [(line["step"], line["loss"]) for line in read_log(tmp_path / name / "log.jsonl") if line["kind"] == kind]
            for name in ("whole", "stopped")
        ]
        assert lines[0] == lines[1]


def test_a_validation_that_a_killed_run_had_done_is_in_the_log_once(tmp_path):
    method, stop, calls = tiny("fcmae"), StopSignal(), []
    validate = validation_of(method, stop, calls)

    def killed(model, loss) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.fit(tmp_path, epochs=1, validate=validate, export=killed, checkpoint_minutes=0)
    fit_with_validation(tmp_path)
    steps = [line["step"] for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "validation"]
    assert steps == [4, 8]


def test_a_signal_between_two_parts_of_a_batch_gives_the_step_up(tmp_path):
    whole = tiny("densecl")
    whole.fit(tmp_path / "whole")

    stopped, calls = tiny("densecl"), []
    hook = stopped.model.register_forward_hook(lambda *_: raise_signal() if len(calls) == 9 else calls.append(0))
    assert stopped.fit(tmp_path / "stopped", accumulation=4) is None
    hook.remove()
    assert read_log(tmp_path / "stopped/log.jsonl")[-1]["step"] == 2

    # In as many parts, for the digits of a sum depend on their number.
    parts = tiny("densecl")
    parts.fit(tmp_path / "parts", accumulation=4)
    resumed = tiny("densecl")
    resumed.fit(tmp_path / "stopped", accumulation=4)
    assert all(torch.equal(value, resumed.state()[name]) for name, value in parts.state().items())


def test_a_signal_between_two_lines_of_the_log_is_heard(tmp_path):
    method = tiny("fcmae")
    method.fit(tmp_path, log_every=100, before_step=lambda model, step: step == 1 and raise_signal())
    assert read_log(tmp_path / "log.jsonl")[-1]["step"] in (1, 2)


def test_ranks_look_so_often_that_ten_seconds_lie_between(monkeypatch):
    class TwoProcesses:
        num_processes, is_main_process, device = 2, True, "cpu"

        def reduce(self, tensor):
            return tensor

    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for seconds in (0.1, 3.0, 60.0):
        lookout, looks = Lookout(TwoProcesses(), StopSignal(), 0), []
        for step in range(1, 300):
            now[0] += seconds
            if lookout.due(step):
                lookout.look(step)
                looks.append(now[0])
        gaps = [later - earlier for earlier, later in pairwise(looks)]
        assert max(gaps) <= max(LOOK_SECONDS, seconds) + 1e-6
        assert seconds >= LOOK_SECONDS or min(gaps) > LOOK_SECONDS / 2, "nor does it look at each step"


def test_validation_is_computed_in_parts_and_gives_the_same(tmp_path):
    method = tiny("fcmae")
    method.model.eval()
    losses = []
    for accumulation in (1, 4):
        calls = []
        losses.append(validation_of(method, StopSignal(), calls, accumulation=accumulation)(None, None, 0)["loss"])
        assert calls == 4 * accumulation * [8 // accumulation]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_memory_that_does_not_suffice_for_validation_is_one_sentence():
    method = tiny("fcmae")

    def too_large(**batch):
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(InputError, match=r"does not suffice for accumulation=2: .* accumulation=4"):
        mean_losses(too_large, method.loader(), method.accelerator, 2)


def test_watching_ends_at_the_item_after_the_signal():
    stop, seen = StopSignal(), []
    with stop.held(), pytest.raises(Stopped):
        for item in stop.watch(range(10)):
            seen.append(item)
            if item == 3:
                raise_signal()
    assert seen == [0, 1, 2, 3]


WAITS = textwrap.dedent("""
    import sys, time
    from sempre.errors import run_command
    from sempre.training.preemption import StopSignal

    def main():
        StopSignal()
        print("ready", flush=True)
        time.sleep(60)

    run_command(main)
""")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("blocked", [False, True])
def test_outside_of_training_a_signal_ends_the_process_at_once(tmp_path, number, blocked):
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {number} if blocked else set())
        if blocked:  # as slurm/launch.py does: what comes too early waits until it can be answered
            os.kill(os.getpid(), number)

    (tmp_path / "waits.py").write_text(WAITS)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "waits.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        preexec_fn=block,
    )
    if not blocked:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
    assert process.wait(30) == EXIT_PREEMPTED
