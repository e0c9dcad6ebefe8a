import pytest
import torch
from accelerate import Accelerator
from torch import nn

from sempre.training import validation
from sempre.training.validation import mean_losses


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": x.mean(), "other": -x.mean()}


def test_a_short_last_batch_weighs_what_it_holds():
    batches = [{"x": torch.tensor([1.0, 2.0, 3.0])}, {"x": torch.tensor([10.0])}]
    assert mean_losses(Mean(), batches, Accelerator(cpu=True)) == {"loss": 4.0, "other": -4.0}


def test_a_process_without_a_batch_adds_nothing(monkeypatch):
    monkeypatch.setattr(
        validation, "gather_object", lambda own: [*own, ({}, 0, False), ({"loss": 12.0, "other": 0.0}, 2, False)]
    )
    means = mean_losses(Mean(), [{"x": torch.tensor([3.0])}], Accelerator(cpu=True))
    assert means == pytest.approx({"loss": 5.0, "other": -1.0})
