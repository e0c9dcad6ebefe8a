"""Work on micrographs that the processes of a run share, and what is kept of it when they are killed."""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import nn
from tqdm import tqdm

from sempre.files import file_sha256, whole_or_absent
from sempre.training.runs.checkpointing import MANIFEST
from sempre.training.runs.preemption import Stopped, StopSignal

MEETING_SECONDS = 10.0  # of work between two exchanges of results
KEPT = "scored"  # folder of a repeat, with the results that are kept until its summary is written

Said = TypeVar("Said")


@dataclass(frozen=True)
class SharedWork:
    """`sempre.data.labels.predictions.Share` over all processes of a run.

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


@torch.no_grad()
def same_buffers(model: nn.Module) -> None:
    """Give every process the main one's running statistics, of which each has its own while it trains."""
    for buffer in model.buffers():
        broadcast(buffer)
