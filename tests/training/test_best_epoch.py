from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader

from sempre.data.samplers import EpochSampler
from sempre.training.accelerator import make_accelerator
from sempre.training.best_epoch import train_to_best
from sempre.training.loop import LoopOptions, Trainer
from sempre.training.run_folder import read_log


class Line(nn.Module):
    """Its weight moves at each step."""

    def __init__(self):
        super().__init__()
        self.kept = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.kept(x) - 10).abs().mean()}


class Ones(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 8

    def name_of(self, sample: int) -> str:
        return f"one {sample}"

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        return {"x": torch.ones(1)}


def train(folder: Path, scores: list[float], validating: tuple[int, ...] = (4, 7), validate_every: int = 1) -> dict:
    """Three epochs of which `scores` are found: what was seen on the way, and the weight that was kept."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    model, seen = Line(), {"shown": [], "weights": [], "settled": 0}

    def settle() -> None:
        seen["settled"] += 1

    def aji_plus(shown) -> float:
        seen["shown"].append(list(shown))
        seen["weights"].append(model.kept.weight.item())
        return scores[len(seen["shown"]) - 1]

    trainer = Trainer(
        model,
        torch.optim.AdamW(model.parameters(), lr=0.1),
        DataLoader(Ones(), batch_sampler=EpochSampler(8, 4, seed=0)),
        lambda step: 0.1,
        LoopOptions(epochs=3, seed=0, validate_every=validate_every),
        accelerator=make_accelerator("float32"),
        folder=folder,
    )
    positions = np.array(validating, int)
    finished = train_to_best(trainer, kept=model.kept, aji_plus=aji_plus, validating=positions, settle=settle)
    assert finished
    return seen | {"kept": model.kept.weight.item()}


def test_the_weights_of_the_epoch_that_validates_best_are_kept(tmp_path):
    seen = train(tmp_path, [0.3, 0.7, 0.5])
    assert len(set(seen["weights"])) == 3
    assert seen["kept"] == seen["weights"][1]
    assert seen["shown"] == [[4, 7]] * 3
    assert seen["settled"] == 3, "before each validation, and no more on what was kept"
    assert float(load_file(tmp_path / "best.safetensors")["weight"]) == seen["kept"]
    lines = [line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "validation"]
    assert [line["aji_plus"] for line in lines] == [0.3, 0.7, 0.5]
    assert [line["loss"] for line in lines] == pytest.approx([0.7, 0.3, 0.5])


@pytest.mark.parametrize(("validating", "validate_every"), [((), 1), ((4, 7), 0)])
def test_without_validation_the_last_weights_stay_and_are_settled_once(validating, validate_every, tmp_path):
    whole = train(tmp_path / "whole", [0.1, 0.2, 0.3])
    seen = train(tmp_path / "last", [], validating, validate_every)
    assert seen["kept"] == whole["weights"][2]
    assert seen["settled"] == 1
    assert not seen["shown"]
    assert not (tmp_path / "last/best.safetensors").exists()
