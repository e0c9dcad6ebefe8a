"""The four methods of pretraining, whole but tiny, with a dataset of noise: what the loop's tests train."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sempre.data.samplers import EpochSampler
from sempre.models.unet_encoder import UNetEncoder
from sempre.pretraining.densecl import DenseCL
from sempre.pretraining.dino import DINO
from sempre.pretraining.masked_autoencoders import FCMAE, SparK, random_visible
from sempre.training.accelerator import Speed, make_accelerator
from sempre.training.checkpointing import Progress
from sempre.training.loop import Hooks, LoopOptions, Trainer
from tests.warm import start_two_ranks

SAMPLES, BATCH, RATE = 32, 8, 1e-3
Parts = tuple[nn.Module, torch.optim.Optimizer, Dataset]


class Noise(Dataset):
    """Samples of grey noise, functions of (epoch, sample): views `[count, 1, size, size]` a name, with
    the sample's number if `named`; or without any a masked crop."""

    def __init__(self, named: bool = False, **views: tuple[int, int]):
        self.named, self.views, self.samples = named, views, SAMPLES

    def __len__(self) -> int:
        return self.samples

    def name_of(self, sample: int) -> str:
        return f"noise {sample}"

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor | int]:
        epoch, sample = key
        draws = torch.Generator().manual_seed(1000 * epoch + sample)
        if not self.views:
            visible = torch.from_numpy(random_visible(4, 0.5, 0, epoch, sample))
            return {"image": torch.randn(1, 64, 64, generator=draws), "visible": visible}
        views = {name: torch.randn(n, 1, size, size, generator=draws) for name, (n, size) in self.views.items()}
        return views | ({"sample": sample} if self.named else {})


@dataclass(frozen=True)
class Method:
    """A method's model, its optimiser and its data."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    dataset: Dataset

    accelerator: Accelerator

    def fit(self, folder: Path, epochs: int = 2, **changed) -> Progress | None:
        """Four steps an epoch; `changed` are options and hooks of the loop, `rate` and `stop`."""
        rate, stop = changed.pop("rate", lambda step: RATE), changed.pop("stop", None)
        options, hooks = options_and_hooks({"epochs": epochs, "seed": 5, "log_every": 2} | changed)
        place = {"accelerator": self.accelerator, "folder": folder, "stop": stop}
        return Trainer(self.model, self.optimizer, self.loader(), rate, options, hooks, **place).train()

    def loader(self, shuffle: bool = True) -> DataLoader:
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        sampler = EpochSampler(len(self.dataset), BATCH, 3, rank, ranks, shuffle)
        return DataLoader(self.dataset, batch_sampler=sampler)

    def state(self) -> dict[str, Tensor]:
        """Copies of all that a step may change."""
        moments = {
            f"{number}.{name}": value.clone()
            for number, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        return {name: value.clone() for name, value in self.model.state_dict().items()} | moments


def options_and_hooks(changed: dict) -> tuple[LoopOptions, Hooks]:
    """Those of the loop that tests change, by name."""
    names = {field.name for field in fields(Hooks)}
    hooks = {name: value for name, value in changed.items() if name in names}
    return LoopOptions(**{name: value for name, value in changed.items() if name not in names}), Hooks(**hooks)


def convnext() -> nn.Module:
    return timm.create_model("convnextv2_atto", in_chans=1, num_classes=0, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))


def tiny(name: str, speed: Speed | None = None, precision: str = "float32", samples: int = SAMPLES) -> Method:
    """The method of this name, the same at each call; "atto" is FCMAE with a network of the real depth and width.

    With fewer samples than a batch has, all of them are the only batch of an epoch.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(precision, speed=speed)
    torch.manual_seed(0)
    parts = {"fcmae": fcmae, "atto": atto, "spark": spark, "densecl": densecl, "dino": dino}[name]()
    method = Method(*parts, accelerator)
    method.dataset.samples = samples
    if name == "densecl":
        method.model.batch = min(samples, BATCH)
    return method


def fcmae() -> Parts:
    model = FCMAE(convnext(), decoder_width=16)
    return model, torch.optim.AdamW(model.parameters(), lr=RATE), Noise()


def atto() -> Parts:
    model = FCMAE(timm.create_model("convnextv2_atto", in_chans=1, num_classes=0), decoder_width=64)
    return model, torch.optim.AdamW(model.parameters(), lr=RATE), Noise()


def spark() -> Parts:
    model = SparK(UNetEncoder("unet_small"), 16)
    return model, torch.optim.AdamW(model.parameters(), lr=RATE), Noise()


def densecl() -> Parts:
    model = DenseCL(convnext(), 20, (16, 8))
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], RATE, momentum=0.9)
    optimizer.register_step_post_hook(lambda *_: model.follow())
    return model, optimizer, Noise(named=True, views=(2, 64))


def dino() -> Parts:
    model = DINO(convnext(), convnext(), outputs=16)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=RATE)
    optimizer.register_step_post_hook(lambda *_: model.follow())
    return model, optimizer, Noise(global_views=(2, 64), local_views=(2, 32))


def run_in_two_processes(module: str, folder: Path) -> None:
    """Run a test module's own program by two processes, with `folder` as its argument."""
    ranks = start_two_ranks([sys.executable, "-m", module, str(folder)], Path(__file__).parents[2])
    for finished in [rank.finish() for rank in ranks]:
        assert finished.returncode == 0, finished.stderr
