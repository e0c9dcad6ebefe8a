"""A checkpoint is whole, verified, and never lost: not to a kill at any byte, a full disk, or a damaged file."""

import errno
import json
import os
import random
import re
import resource
import signal

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from sempre.errors import InputError
from sempre.training import checkpointing
from sempre.training.checkpointing import Progress, TrainingState, load_checkpoint, save_checkpoint

KILLS = 100


def state(value: float) -> TrainingState:
    """A small network and its optimizer after one step, every weight and the step number `value`."""
    model = nn.Linear(8, 8)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return TrainingState(model, optimizer, Progress(step=int(value)))


def load(folder) -> float | None:
    """The value of the checkpoint, which must be one value throughout."""
    loaded = state(0.0)
    if not load_checkpoint(loaded, folder, Accelerator(cpu=True)):
        return None
    values = {float(value) for value in torch.cat([p.detach().flatten() for p in loaded.model.parameters()])}
    assert values == {float(loaded.progress.step)}
    assert loaded.optimizer.state_dict()["state"], "the optimizer's moments come back too"
    return values.pop()


def test_there_is_nothing_to_load_at_first(tmp_path):
    assert load(tmp_path) is None


def test_the_newest_two_are_kept(tmp_path):
    for value in (1.0, 2.0, 3.0):
        save_checkpoint(state(value), tmp_path)
    assert load(tmp_path) == 3.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "previous"]


@pytest.mark.parametrize("step", ["save_file", "_flush", "write_json", "_promote"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, step):
    save_checkpoint(state(1.0), tmp_path)

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpointing, step, fail)
    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        save_checkpoint(state(2.0), tmp_path)
    monkeypatch.undo()
    assert load(tmp_path) in (1.0, 2.0)
    save_checkpoint(state(3.0), tmp_path)
    assert load(tmp_path) == 3.0


def test_a_folder_that_cannot_be_written_gives_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot save"):
        save_checkpoint(state(1.0), tmp_path / "file")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "progress.json", "manifest.json"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_taken(tmp_path, capsys, name):
    for value in (1.0, 2.0):
        save_checkpoint(state(value), tmp_path)
    damaged = tmp_path / "last" / name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0x10
    damaged.write_bytes(content)
    assert load(tmp_path) == 1.0
    assert f"{tmp_path / 'last'} is damaged" in capsys.readouterr().out
    (tmp_path / "previous" / name).unlink()
    with pytest.raises(InputError, match=r"damaged .* remove .* to begin anew"):
        load(tmp_path)


DAMAGED = {
    "model.safetensors": b"no safetensors",
    "optimizer.pt": b"no archive",
    "progress.json": b"[[[",
    "progress.json ": b'{"step": "2"}',
    "progress.json  ": b'{"step": 2, "unknown": 0}',
    "manifest.json": b'{"sha256": {}}',
    "manifest.json ": b'{"sha256": 0.5}',
    "manifest.json  ": b"[" * 5000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_checkpoint_that_cannot_be_read_is_passed_over_whatever_its_manifest_says(tmp_path, capsys, name):
    for value in (1.0, 2.0):
        save_checkpoint(state(value), tmp_path)
    (tmp_path / "last" / name.strip()).write_bytes(DAMAGED[name])
    if "manifest" not in name:
        checksums = checkpointing._checksums(tmp_path / "last")
        (tmp_path / "last/manifest.json").write_text(json.dumps({"sha256": checksums}))
    assert load(tmp_path) == 1.0
    assert "last is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["weights", "moments"])
def test_what_is_not_finite_is_never_saved(tmp_path, part):
    save_checkpoint(state(1.0), tmp_path)
    with pytest.raises(InputError, match=r"is not finite at step 2 and is not saved.*a lower rate"):
        save_checkpoint(spoilt(state(2.0), part), tmp_path)
    assert load(tmp_path) == 1.0


@pytest.mark.parametrize("part", ["weights", "moments"])
def test_a_checkpoint_that_is_not_finite_is_reported_and_the_one_before_taken(tmp_path, capsys, monkeypatch, part):
    save_checkpoint(state(1.0), tmp_path)
    monkeypatch.setattr(checkpointing, "not_finite", lambda tensors: "")  # as it was saved before anyone looked
    save_checkpoint(spoilt(state(2.0), part), tmp_path)
    monkeypatch.undo()
    assert load(tmp_path) == 1.0
    assert re.search(r"last is damaged \(.* is not finite\): going on from .*previous", capsys.readouterr().out)


def spoilt(state: TrainingState, part: str) -> TrainingState:
    """The state with one value that is no number."""
    parameter = state.model.weight
    values = parameter.data if part == "weights" else state.optimizer.state[parameter]["exp_avg_sq"]
    values[3, 5] = float("nan")
    return state


def test_another_network_is_refused(tmp_path):
    save_checkpoint(state(1.0), tmp_path)
    other = nn.Linear(8, 4)
    wrong = TrainingState(other, torch.optim.AdamW(other.parameters()), Progress())
    with pytest.raises(InputError, match="another network's"):
        load_checkpoint(wrong, tmp_path, Accelerator(cpu=True))


@pytest.mark.slow
def test_a_saver_killed_at_any_byte_leaves_a_valid_checkpoint(tmp_path):
    """The kernel ends the saver when one of its files would pass a random number of bytes."""
    save_checkpoint(state(1.0), tmp_path)
    largest = max(path.stat().st_size for path in (tmp_path / "last").iterdir())
    draws, newest, killed = random.Random(0), 1.0, 0
    for kill in range(KILLS):
        value = float(kill + 2)
        status = in_child(lambda: save_checkpoint(state(value), tmp_path), limit=draws.randrange(largest))  # noqa: B023
        killed += os.WIFSIGNALED(status)
        newest = newest if os.WIFSIGNALED(status) else value
        assert load(tmp_path) == newest
    assert killed > KILLS / 2


def test_a_saver_killed_at_any_system_call_loses_at_most_its_own_checkpoint(tmp_path, monkeypatch):
    calls = []
    for name in ("rename", "fsync"):
        monkeypatch.setattr(os, name, die_at(getattr(os, name), calls, at=-1))
    save_checkpoint(state(1.0), tmp_path)
    total = len(calls)
    monkeypatch.undo()
    save_checkpoint(state(2.0), tmp_path)
    for at in range(total):
        before = load(tmp_path)

        def save(at: int = at, before: float = before) -> None:
            calls = []
            for name in ("rename", "fsync"):
                setattr(os, name, die_at(getattr(os, name), calls, at))
            save_checkpoint(state(before + 1), tmp_path)

        in_child(save)
        assert load(tmp_path) in (before, before + 1)
    assert load(tmp_path) > 2.0, "a checkpoint that was whole when the saver was killed is used"


def in_child(act, limit: int | None = None) -> int:
    """The wait status of a forked process that does `act`, with files of at most `limit` bytes."""
    child = os.fork()
    if child == 0:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        act()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def die_at(call, calls: list, at: int):
    """`call`, but the process is killed in place of its `at`-th use."""

    def counted(*arguments, **options):
        calls.append(call)
        if len(calls) - 1 == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    return counted
