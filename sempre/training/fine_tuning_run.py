"""What the recipes that fine-tune segmenters have in common: how a run begins, its repeats, and what is said of it."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from accelerate import Accelerator
from torch.utils.data import DataLoader

from sempre import __version__
from sempre.data.dense_crops import DenseCrops
from sempre.data.detection_crops import DetectionCrops
from sempre.data.folds import NOBODY, SplitOptions, divide
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import EpochSampler
from sempre.data.splits import Splits
from sempre.errors import InputError
from sempre.files import code_commit, read_json, write_json
from sempre.metrics import with_spread
from sempre.training.accelerator import TIMEOUT_MINUTES, make_accelerator
from sempre.training.preemption import StopSignal
from sempre.training.run_folder import lock_run, open_run
from sempre.training.scoring import KEPT, SharedWork, results_of_training, said_by_main, summarise_run

# How a run is computed and reported, not what it comes to.
MAY_CHANGE = ("accumulation", "groups", "workers", "timeout_minutes")


class FineTuningOptions(SplitOptions, Protocol):
    """What is asked of a recipe's options."""

    name: str
    groups: str
    repeats: int
    seed: int
    precision: str


@dataclass(frozen=True)
class FineTuningRun:
    """A run that has begun: where it is, what it computes on, and the splits of the labelled set."""

    options: FineTuningOptions
    folder: Path
    labelled: LabelledSet
    splits: Splits
    groups: dict[str, str]  # of each micrograph by its name, which are scored apart
    accelerator: Accelerator
    stop: StopSignal

    def unfinished_repeats(self) -> Iterator[tuple[int, Path]]:
        """The seed and the folder of each repeat without a summary; the processes wait for each other after each."""
        for repeat in range(self.options.repeats):
            folder = self.folder / f"repeat-{repeat}"
            if not said_by_main(self.accelerator, (folder / "summary.json").exists):
                yield self.options.seed + repeat, folder
                self.accelerator.free_memory()
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                shutil.rmtree(folder / KEPT, ignore_errors=True)

    def sharing(self, folder: Path) -> SharedWork:
        """How the processes share what comes after the training of the repeat in `folder`: its results are kept there,
        a micrograph at a time, until the repeat's summary is written."""
        return SharedWork(self.accelerator, self.stop, results_of_training(folder, self.accelerator))

    def check_fitted(self, fitted: np.ndarray) -> None:
        """Check the micrographs at the positions `fitted`, which are drawn from the training split.

        Raises:
            InputError: where none of them shows a particle.
        """
        if not self.labelled.holds_particles(fitted):
            raise InputError(
                f"none of the {len(fitted)} micrographs that are drawn to train on shows a particle: raise "
                "label_count, or give another seed"
            )

    def finish(self) -> None:
        """Write what the repeats come to as the run's summary, and print it; once in all processes."""
        if not self.accelerator.is_main_process:
            return
        repeats = [read_json(self.folder / f"repeat-{n}/summary.json") for n in range(self.options.repeats)]
        summary = summarise_run(repeats, self.groups)
        origin = {"sempre_version": __version__, "sempre_commit": code_commit()}
        write_json(self.folder / "summary.json", {**summary, **origin})
        blank = "" if summary["scores"]["true_instances"]["mean"] else ", none of which shows a particle"
        score = with_spread(summary["scores"]["aji_plus"])
        print(f"AJI+ {score} on {len(self.splits.held_out)} micrographs{blank}")


def start_fine_tuning(
    options: FineTuningOptions,
    percentiles: tuple[float, float],
    components: bool = False,
    also: Sequence[str] = (),
) -> FineTuningRun:
    """Open the labelled set and begin or go on with the run `runs/<name>`.

    Args:
        percentiles: of the grey values that become black and white.
        components: whether each piece of a mask is a particle (`LabelledSet`).
        also: folders of further labelled sets that are trained on.

    Raises:
        InputError: for a set that cannot be read or divided as is asked, without a particle to learn from, a run of
            other options or of other micrographs, labels or splits, or one in use.
    """
    labelled = LabelledSet(options.data, percentiles=percentiles, components=components)
    splits = divide(labelled, options)
    labelled.check_particles(splits)
    digests = labelled.digests(splits)
    for folder in also:
        further = LabelledSet(folder, components=components)
        everything = Splits(np.arange(len(further)), NOBODY, NOBODY)
        digests |= {f"{folder}/{name}": digest for name, digest in further.digests(everything).items()}
    groups: dict[str, str] = {}
    if options.groups:
        from sempre.data.groups import read_groups  # here, for most runs name no groups

        groups = read_groups(options.groups, labelled.paths)
    stop = StopSignal()
    accelerator = make_accelerator(options.precision, timeout_minutes(options))
    folder = Path("runs") / options.name
    if not said_by_main(accelerator, folder.exists):
        # What is wrong with one had better be known before hours of training. Those to train on are read as it begins.
        labelled.read_through([*splits.choosing, *splits.held_out], SharedWork(accelerator))
    with accelerator.main_process_first():
        folder = open_run(folder, options, MAY_CHANGE, micrographs=digests)
        if accelerator.is_main_process:
            lock_run(folder)
    return FineTuningRun(options, folder, labelled, splits, groups, accelerator, stop)


def timeout_minutes(options: object) -> float:
    """How long the processes wait for each other; 30 minutes for recipes that have no such option."""
    return getattr(options, "timeout_minutes", TIMEOUT_MINUTES)


def crop_loader(
    crops: DetectionCrops | DenseCrops,
    batch: int,
    seed: int,
    workers: int,
    accelerator: Accelerator,
    collate: Callable[[list], dict] | None = None,
) -> DataLoader:
    """This process's share of the batches of `batch` crops, in an order that the seed draws anew each epoch."""
    ranks, rank = accelerator.num_processes, accelerator.process_index
    return DataLoader(
        crops,
        batch_sampler=EpochSampler(len(crops), batch, seed, rank, ranks),
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
    )
