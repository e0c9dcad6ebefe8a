"""Predictions on a labelled set, scored, and the processes of a run that share this work."""

import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import nn
from tqdm import tqdm

from sempre.data.labelled import LabelledMicrograph, LabelledSet, Share, one_by_one
from sempre.errors import InputError, warn
from sempre.files import file_sha256, whole_or_absent, write_json
from sempre.images import encode_rle_of_crop, instance_boxes, write_labels
from sempre.metrics import (
    Overlap,
    average_precision,
    by_group,
    label_overlap,
    mask_overlap,
    score_sample,
    summarise,
    summarise_repeats,
)
from sempre.training.checkpointing import MANIFEST
from sempre.training.preemption import Stopped, StopSignal


@dataclass(frozen=True)
class Prediction:
    """A label image `[H, W]`; and where the method gives them, all its detections, which may overlap, with scores.

    `masks` are (y0, x0, bool crop), `scores` `[N]`. Detections whose score was too low for the label image are among
    them, for average precision weighs them by their rank.
    """

    labels: np.ndarray
    masks: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    scores: np.ndarray | None = None


def predict_and_score(
    dataset: LabelledSet,
    indices: Iterable[int],
    predict: Callable[[np.ndarray, int], Prediction],
    folder: Path,
    share: Share = one_by_one,
) -> dict:
    """Segment the micrographs at `indices`, write `folder/<name>.tif` label images, and score them.

    Detections with scores are written beside their label image, to `folder/<name>.json`, as tools/score.py reads them.

    Args:
        predict: takes float32 pixels `[H, W]` in [0, 1], and the micrograph's position in the set.
        share: by which processes.

    Returns:
        `{"summary", "samples", "seconds_a_micrograph"}`: the first two as `sempre.metrics.summarise` and `score_sample`
        give them, the summary with mask AP when the predictions have scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    indices = [int(index) for index in indices]

    def segment_and_score(index: int) -> dict:
        micrograph = dataset.read(index)
        start = time.monotonic()
        prediction = predict(micrograph.pixels.astype(np.float32) / 255, index)
        seconds = time.monotonic() - start
        write_labels(folder / f"{dataset.names[index]}.tif", prediction.labels)
        result = {"seconds": seconds, "sample": score_sample(true_overlap(micrograph, prediction.labels))}
        if prediction.scores is None:
            return result
        size, scores = list(micrograph.pixels.shape), prediction.scores.tolist()
        predicted = [
            encode_rle_of_crop(mask, y, x, micrograph.pixels.shape)["counts"] for y, x, mask in prediction.masks
        ]
        detections = [{"counts": counts, "score": score} for counts, score in zip(predicted, scores, strict=True)]
        write_json(folder / f"{dataset.names[index]}.json", {"size": size, "instances": detections})
        return {**result, "size": size, "true": true_counts(micrograph), "predicted": predicted, "scores": scores}

    label = "/".join(("segmenting for", *folder.parts[-3:-1]))
    names = [dataset.names[index] for index in indices]
    results = dict(zip(names, share(indices, segment_and_score, label), strict=True))
    samples = {name: result["sample"] for name, result in results.items()}
    summary = summarise(samples)
    detected = {name: result for name, result in results.items() if "scores" in result}
    if detected:
        true = {name: _run_lengths(result, "true") for name, result in detected.items()}
        predicted = {name: (_run_lengths(result, "predicted"), result["scores"]) for name, result in detected.items()}
        summary |= average_precision(true, predicted)
    seconds = sum(result["seconds"] for result in results.values()) / len(results)
    return {"summary": summary, "samples": samples, "seconds_a_micrograph": seconds}


def score_untrained(
    dataset: LabelledSet,
    indices: Iterable[int],
    predict: Callable[[np.ndarray, int], Prediction],
    folder: Path,
    groups: Mapping[str, str] | None = None,
    accelerator: Accelerator | None = None,
) -> dict:
    """Score a method that learns nothing here, as `predict_and_score` does; `folder` becomes a run's of one repeat.

    With `groups`, of each micrograph by its name, they are scored apart too. The processes of `accelerator` share the
    micrographs; the main one writes the summaries.

    Returns:
        The summary over the micrographs.

    Raises:
        InputError: where nothing in the set shows a particle.
    """
    indices = list(indices)
    if not dataset.holds_particles(indices):
        if not dataset.holds_particles(range(len(dataset))):
            raise InputError(
                f"no micrograph of {dataset.folder} shows a particle: label some, there is nothing to score"
            )
        warn(f"none of the {len(indices)} micrographs of {dataset.folder} that are scored shows a particle")
    share = one_by_one if accelerator is None else SharedWork(accelerator)
    scores = predict_and_score(dataset, indices, predict, folder / "repeat-0/predictions", share)
    if accelerator is None or accelerator.is_main_process:
        write_json(folder / "repeat-0/summary.json", scores)
        write_json(folder / "summary.json", summarise_run([scores], groups))
    return scores["summary"]


def true_overlap(micrograph: LabelledMicrograph, labels: np.ndarray) -> Overlap:
    """The overlap of a micrograph's instances, which may overlap among themselves, and predicted labels `[H, W]`."""
    if len(micrograph.layers) == 1:
        return label_overlap(micrograph.layers[0], labels)
    predicted = [labels == label for label in range(1, int(labels.max(initial=0)) + 1)]
    return mask_overlap(true_masks(micrograph), [mask for mask in predicted if mask.any()])


def true_masks(micrograph: LabelledMicrograph) -> list[np.ndarray]:
    """The micrograph's instances as bool masks `[H, W]`."""
    return [layer == label for layer in micrograph.layers for label in np.unique(layer[layer > 0])]


def true_counts(micrograph: LabelledMicrograph) -> list[list[int]]:
    """COCO's uncompressed run lengths of the micrograph's instances, by layer and id."""
    counts = []
    for layer in micrograph.layers:
        for label, (x0, y0, x1, y1) in zip(*instance_boxes(layer), strict=True):
            crop = layer[y0:y1, x0:x1] == label
            counts.append(encode_rle_of_crop(crop, int(y0), int(x0), layer.shape)["counts"])
    return counts


def _run_lengths(result: dict, side: str) -> list[dict]:
    return [{"size": result["size"], "counts": counts} for counts in result[side]]


def summarise_run(repeats: Sequence[Mapping], groups: Mapping[str, str] | None = None) -> dict:
    """What `summary.json` of a run holds.

    Args:
        repeats: of each, what `sempre.training.scoring.predict_and_score` gives.
        groups: the group of each micrograph by its name, if they are to be scored apart.

    Returns:
        `repeats`; `scores` over repeats, as `sempre.metrics.summarise_repeats`; and `groups`, such scores by group,
        where there are groups.
    """
    summary = {"repeats": list(repeats), "scores": summarise_repeats([repeat["summary"] for repeat in repeats])}
    if groups:
        members = [by_group(repeat["samples"], groups) for repeat in repeats]
        summary["groups"] = {
            group: summarise_repeats([summarise(of_repeat[group]) for of_repeat in members]) for group in members[0]
        }
    return summary


MEETING_SECONDS = 10.0  # of work between two exchanges of results
KEPT = "scored"  # folder of a repeat, with the results that are kept until its summary is written

LOOKING_SECONDS = 0.5  # between two looks for the end of the main process's work
SEEN_SECONDS = 10.0  # that the main process waits for the others to see that its work has failed
USER_ERROR = 2  # exit code after an InputError

Said = TypeVar("Said")
_pieces = itertools.count()  # of work of the main process, counted alike in all processes


@dataclass(frozen=True)
class SharedWork:
    """`sempre.training.scoring.Share` over all processes of a run.

    The processes work on what is left, each on its share, and exchange what they have after `MEETING_SECONDS`. Then
    they divide anew what is left. So none waits long for another, whatever the micrographs cost, and all make the same
    number of collective calls: that they go on depends on results alone which all have.

    Args:
        stop: looked at before each micrograph, where signals are held.
        kept: a folder for the results, a file each. Results that lie there already are not worked out again.
        shown: the main process shows a progress bar.
    """

    accelerator: Accelerator
    stop: StopSignal | None = None
    kept: Path | None = None
    shown: bool = True

    def __call__(self, positions: Iterable[int], work: Callable[[int], Any], label: str) -> list[Any]:
        """`work(position)` of each position, in their order, in every process.

        Raises:
            Stopped: in every process, when a signal has come to one.
        """
        positions = [int(position) for position in positions]
        results: dict[int, Any] = said_by_main(self.accelerator, lambda: self._found(positions, label))
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        hidden = not (self.shown and self.accelerator.is_main_process)
        with tqdm(total=len(positions), initial=len(results), desc=label, unit="image", disable=hidden) as bar:
            while left := [position for position in positions if position not in results]:
                own, start = {}, time.monotonic()
                for position in left[rank::ranks]:
                    if self.stop or time.monotonic() - start > MEETING_SECONDS:
                        break
                    own[position] = work(position)
                    self._keep(position, own[position], label)
                    bar.update()
                stopped = False
                for part, stopped_part in gather_object([(own, bool(self.stop))]):
                    results.update(part)
                    stopped |= stopped_part
                if stopped:
                    raise Stopped
                bar.update(len(results) - bar.n)
        return [results[position] for position in positions]

    def _file(self, position: int, label: str) -> Path:
        assert self.kept is not None
        return self.kept / label.replace("/", " ") / f"{position}.json"

    def _found(self, positions: list[int], label: str) -> dict[int, Any]:
        """What lies in the folder already."""
        if self.kept is None:
            return {}
        files = {position: self._file(position, label) for position in positions}
        return {position: json.loads(file.read_text()) for position, file in files.items() if file.is_file()}

    def _keep(self, position: int, result: Any, label: str) -> None:
        if self.kept is None:
            return
        file = self._file(position, label)
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_or_absent(file) as partial:
            partial.write_text(json.dumps(result))


def results_of_training(folder: Path, accelerator: Accelerator) -> Path:
    """The folder, in that of a repeat, for the results of the network whose training has ended there.

    Its name is made from the last checkpoint's checksum. Results of another network in the repeat's folder are removed.
    """
    manifest = folder / "checkpoints/last" / MANIFEST

    def name() -> str:
        of_training = file_sha256(manifest)[:16] if manifest.is_file() else "untrained"
        for other in (folder / KEPT).glob("*"):
            if other.name != of_training:
                shutil.rmtree(other, ignore_errors=True)
        return of_training

    return folder / KEPT / said_by_main(accelerator, name)


def said_by_main(accelerator: Accelerator, say: Callable[[], Said]) -> Said:
    """What `say` gives in the main process, in every process.

    What processes do together must not depend on what each sees of a file system: on a network's, another node may see
    a new file a minute later.
    """
    if accelerator.num_processes == 1:
        return say()
    said: list[Any] = [say() if accelerator.is_main_process else None]
    broadcast_object_list(said)
    return said[0]


def done_by_main(accelerator: Accelerator, work: Callable[[], Said]) -> Said:
    """What `work` gives in the main process, in every process: of work that only one can do and that takes long.

    The others look into the store by which the processes met, for what they wait for in each other breaks after
    `timeout_minutes`. Where the work fails in the main process, they end with its exit code.
    """
    if accelerator.num_processes == 1:
        return work()
    store, key = torch.distributed.distributed_c10d._get_default_store(), f"sempre/done/{next(_pieces)}"
    if not accelerator.is_main_process:
        while not store.check([key]):
            time.sleep(LOOKING_SECONDS)
        code = int(store.get(key))
        store.add(f"{key}/seen", 1)
        if code:
            sys.exit(code)
        return said_by_main(accelerator, work)
    code = 1
    try:
        result = work()
        code = 0
    except InputError:
        code = USER_ERROR
        raise
    finally:
        store.set(key, str(code))
        deadline = time.monotonic() + SEEN_SECONDS
        # The store ends with this process.
        while code and store.add(f"{key}/seen", 0) < accelerator.num_processes - 1 and time.monotonic() < deadline:
            time.sleep(LOOKING_SECONDS)
    return said_by_main(accelerator, lambda: result)


@torch.no_grad()
def same_buffers(model: nn.Module) -> None:
    """Give every process the main one's running statistics, of which each has its own while it trains."""
    for buffer in model.buffers():
        broadcast(buffer)
