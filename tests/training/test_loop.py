"""The loop resumes to the same weights, stops on a signal, and never goes on with a loss that is no number."""

import json
import signal

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import DataLoader, Dataset

from sempre.data.samplers import EpochSampler
from sempre.errors import InputError
from sempre.training.accelerator import make_accelerator
from sempre.training.loop import Trainer, step_seed
from sempre.training.optimisation import cosine_with_warmup
from sempre.training.run_folder import read_log
from tests.training.tiny_methods import options_and_hooks


class Numbers(Dataset):
    """Random vectors that depend on (epoch, sample)."""

    def name_of(self, sample: int) -> str:
        return f"number {sample}"

    def __len__(self) -> int:
        return 32

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.randn(8, generator=torch.Generator().manual_seed(1000 * key[0] + key[1]))


class Noisy(nn.Module):
    """A small network with dropout, so that the model's noise counts; does `at_step` when it gets there."""

    def __init__(self, at_step: int = -1, act=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.GELU(), nn.Linear(16, 8))
        self.steps, self.at_step, self.act = 0, at_step, act

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = (self.layers(x) - x).square().mean()
        if self.training:
            self.steps += 1
            if self.steps == self.at_step:
                loss = self.act(loss)
        return {"loss": loss}


def train(folder, model, epochs=4, log_every=2, **changed):
    AcceleratorState._reset_state(reset_partial_state=True)
    loader = DataLoader(
        Numbers(), batch_sampler=EpochSampler(32, 4, seed=3), collate_fn=lambda items: {"x": torch.stack(items)}
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    options, hooks = options_and_hooks({"epochs": epochs, "seed": 5, "log_every": log_every} | changed)
    place = {"accelerator": make_accelerator("float32"), "folder": folder}
    return Trainer(
        model, optimizer, loader, lambda step: cosine_with_warmup(step, 32, 4, 1e-2), options, hooks, **place
    ).train()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in model.parameters()]


def test_a_run_stopped_in_mid_epoch_ends_with_the_same_weights(tmp_path):
    whole = Noisy()
    assert train(tmp_path / "whole", whole).step == 32

    def send_signal(loss):
        signal.raise_signal(signal.SIGUSR1)
        return loss

    folder = tmp_path / "stopped"
    assert train(folder, Noisy(at_step=11, act=send_signal)) is None
    assert read_log(folder / "log.jsonl")[-1]["step"] == 11, "it does not go on to the next line of the log"
    resumed = Noisy()
    progress = train(folder, resumed)
    assert (progress.step, progress.epoch) == (32, 4)
    assert resumed.steps == 32 - 11
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    steps = [line["step"] for line in read_log(folder / "log.jsonl")]
    assert steps == sorted(set(steps)), "no line is lost or written twice"


def test_a_finished_run_is_not_trained_again(tmp_path):
    train(tmp_path, Noisy())
    again = Noisy()
    assert train(tmp_path, again).step == 32
    assert again.steps == 0


def test_a_loss_that_is_no_number_stops_and_names_its_batch(tmp_path):
    with pytest.raises(InputError, match=r"the loss is nan at step 5: see its samples in .*bad_batch.json"):
        train(tmp_path, Noisy(at_step=5, act=lambda loss: loss * float("nan")), log_every=8)
    bad = json.loads((tmp_path / "bad_batch.json").read_text())
    sampler = EpochSampler(32, 4, seed=3)
    assert bad["samples"] == [f"number {sample}" for sample in sampler.global_batch(4)]
    assert bad["step"] == 5


def test_the_best_epoch_is_exported_or_each(tmp_path):
    for export_best, expected in ((True, [3.0, 1.0]), (False, [3.0, 1.0, 2.0, 1.5])):
        losses, exported = iter([3.0, 1.0, 2.0, 1.5]), []
        progress = train(
            tmp_path / str(export_best),
            Noisy(),
            validate=lambda model, log, step: {"loss": next(losses), "rank_me": 7.0},  # noqa: B023
            export=lambda model, loss: exported.append(loss),  # noqa: B023
            export_best=export_best,
        )
        assert exported == expected
        assert progress.best == 1.0
        log = read_log(tmp_path / str(export_best) / "log.jsonl")
        validated = [line for line in log if line["kind"] == "validation"]
        assert [line["loss"] for line in validated] == [3.0, 1.0, 2.0, 1.5]
        assert validated[0]["rank_me"] == 7.0


def test_parts_of_a_batch_give_the_gradients_of_the_whole(tmp_path):
    def without_noise():
        model = Noisy()
        model.layers[1].p = 0.0
        return model

    whole, parts = without_noise(), without_noise()
    train(tmp_path / "whole", whole)
    train(tmp_path / "parts", parts, accumulation=3)
    for one, other in zip(weights(whole), weights(parts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_what_follows_a_schedule_is_set_before_each_step(tmp_path):
    steps = []
    train(tmp_path, Noisy(), epochs=1, before_step=lambda model, step: steps.append(step))
    assert steps == list(range(8))


def test_noise_is_a_function_of_seed_step_and_rank():
    assert len({step_seed(seed, step, rank) for seed in range(3) for step in range(3) for rank in range(3)}) == 27
    assert step_seed(1, 2, 3) == step_seed(1, 2, 3)


def test_the_rate_warms_up_and_falls_to_nothing():
    rates = [cosine_with_warmup(step, 100, 10, 1.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)


def test_a_run_ends_early_when_the_loss_no_longer_falls(tmp_path):
    losses = [3.0, 1.0, 2.0, 1.5, 0.5]
    validated = iter(losses)
    stopped = train(
        tmp_path, Noisy(), epochs=5, patience=2, validate=lambda model, log, step: {"loss": next(validated)}
    )
    assert (stopped.epoch, stopped.best) == (4, 1.0)
    again = Noisy()
    assert train(tmp_path, again, epochs=5, patience=2, validate=lambda *_: {"loss": 0.0}).epoch == 4
    assert again.steps == 0, "it is finished"
