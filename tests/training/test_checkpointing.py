import errno

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from sempre.errors import InputError
from sempre.training import checkpointing
from sempre.training.checkpointing import load_checkpoint, save_checkpoint


@pytest.fixture
def state():
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(2, 2)
    model, _ = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    yield accelerator, model
    accelerator.free_memory()


def fill(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_there_is_nothing_to_load_at_first(tmp_path, state):
    assert not load_checkpoint(state[0], tmp_path / "last")


def test_a_checkpoint_is_replaced_by_the_next(tmp_path, state):
    accelerator, model = state
    for value in (1.0, 2.0):
        fill(model, value)
        save_checkpoint(accelerator, tmp_path / "last")
    fill(model, 0.0)
    assert load_checkpoint(accelerator, tmp_path / "last")
    assert (model.weight == 2.0).all()
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("step", ["save", "flush", "rename"])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, state, monkeypatch, step):
    accelerator, model = state
    fill(model, 1.0)
    save_checkpoint(accelerator, tmp_path / "last")
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*arguments, **options):
        raise full

    if step == "save":
        monkeypatch.setattr(accelerator, "save_state", fail)
    elif step == "flush":
        monkeypatch.setattr(checkpointing, "_flush", fail)
    else:
        monkeypatch.setattr(checkpointing.Path, "rename", fail)
    fill(model, 2.0)
    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        save_checkpoint(accelerator, tmp_path / "last")
    monkeypatch.undo()
    assert load_checkpoint(accelerator, tmp_path / "last")
    assert (model.weight == 1.0).all()


@pytest.mark.parametrize("survivor", ["last.new", "last.old"])
def test_a_kill_between_the_renames_leaves_a_valid_one(tmp_path, state, survivor):
    accelerator, model = state
    fill(model, 1.0)
    save_checkpoint(accelerator, tmp_path / "last")
    (tmp_path / "last").rename(tmp_path / survivor)
    fill(model, 0.0)
    assert load_checkpoint(accelerator, tmp_path / "last")
    assert (model.weight == 1.0).all()
