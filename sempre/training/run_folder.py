"""A run's folder: created once, gone on with under the same options, and what is logged in it."""

import atexit
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from sempre.config import changed_keys, save_options
from sempre.errors import InputError
from sempre.files import read_json, whole_or_absent, without_nan, write_json
from sempre.locks import try_lock

STEADY_STEPS = 20


class RunLog:
    """Writes `log.jsonl` and `tensorboard/` in a run's folder and shows progress with an ETA; silent unless `active`.

    Started at `step`, it drops lines past that step, and unless `validated` those of a validation at it: an interrupted
    run repeats them.
    """

    def __init__(self, folder: Path, step: int, total_steps: int, active: bool = True, validated: bool = True):
        self.active = active
        if not active:
            return
        self.path = folder / "log.jsonl"
        self._drop_lines_past(step, validated)
        self.tensorboard = SummaryWriter(folder / "tensorboard", purge_step=step)
        self.estimated = False
        self.bar = tqdm(
            total=total_steps, initial=step, unit="step", desc="/".join(folder.parts[-2:]), dynamic_ncols=True
        )

    def advance(self) -> None:
        if self.active:
            self.bar.update()

    def write(self, step: int, kind: str, **values: float) -> None:
        """Record scalars under `kind` ("train", "validation", …) at `step`."""
        if not self.active:
            return
        with self.path.open("a", encoding="utf-8") as file:
            line = {"step": step, "kind": kind, "time": time.time(), **without_nan(values)}
            file.write(json.dumps(line, allow_nan=False) + "\n")
        for name, value in values.items():
            self.tensorboard.add_scalar(f"{kind}/{name}", value, step)
        if "loss" in values:
            self.bar.set_postfix_str(f"{kind} loss {values['loss']:.4f}")

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        if self.active:
            self.bar.write(text)

    def estimate(self, steps_a_second: float, processes: int) -> None:
        """Say once what the rest of the run will take, when the speed is no longer that of the start."""
        if self.active and not self.estimated and self.bar.n - self.bar.initial >= STEADY_STEPS:
            hours = (self.bar.total - self.bar.n) / steps_a_second / 3600
            device = "GPU" if torch.cuda.is_available() else "process"
            self.bar.write(f"about {hours:.2g} hours to go: {hours * processes:.2g} {device}-hours on {processes}")
            self.estimated = True

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Record a grey image, uint8 `[H, W]`, in TensorBoard and, the newest only, as `figures/<name>.png`."""
        if not self.active:
            return
        self.tensorboard.add_image(name, pixels, step, dataformats="HW")
        path = self.path.parent / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        with whole_or_absent(path) as partial:
            Image.fromarray(pixels).save(partial, format="PNG")

    def close(self) -> None:
        if self.active:
            self.bar.close()
            self.tensorboard.close()

    def _drop_lines_past(self, step: int, validated: bool) -> None:
        kept = [line for line in read_log(self.path) if line["step"] <= step]
        if not validated:
            kept = [line for line in kept if line["step"] < step or line["kind"] != "validation"]
        with whole_or_absent(self.path) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


def read_log(path: Path) -> list[dict]:
    """The lines of a `log.jsonl`; empty when there is none. A last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


try:
    import fcntl
except ImportError:  # Windows, where nobody runs two jobs on one folder
    fcntl = None

RUN_FILE = "SEMPRE_RUN_FILE"  # environment variable
REQUEUE_SECONDS = 120  # that a requeued job waits for its former self to end
# What a folder holds before anything was computed; unet.py's slices are written anew each time.
BEFORE_THE_START = {"config.yaml", "data.json", "lock", "slices"}


def open_run(
    folder: str | Path,
    options: object,
    may_change: Sequence[str] = (),
    data_fingerprint: str | None = None,
    micrographs: Mapping[str, str] | None = None,
) -> Path:
    """Create `folder` with the resolved options in `config.yaml`, or go on with the run that is there.

    Args:
        may_change: options that change how fast a run goes, not where to: a run goes on under other values of these.
        data_fingerprint: of the data the run is trained on; None compares the options alone.
        micrographs: of a labelled set, by name what each is (`LabelledSet.digests`): their fingerprint is compared, and
            what has changed is named.

    Raises:
        InputError: when the folder's run had other options (the message says which) or other data.
    """
    folder = Path(folder)
    saved, data = folder / "config.yaml", folder / "data.json"
    if micrographs is not None:
        data_fingerprint = hashlib.sha256(json.dumps(micrographs, sort_keys=True).encode()).hexdigest()
    if saved.exists():
        changes = [change for change in changed_keys(options, saved) if change.split(":")[0] not in may_change]
        if changes:
            listed = "; ".join(changes)
            raise InputError(f"{folder} holds a run with other options ({listed}): give this one another name=")
        before = read_json(data) if data_fingerprint is not None and data.exists() else None
        if before and before["fingerprint"] != data_fingerprint:
            changed = _changed_micrographs(before.get("micrographs", {}), micrographs or {})
            what = f"{changed} changed" if changed else "the micrographs have changed"
            raise InputError(f"{what} since {folder} was begun: give this run another name=")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if data_fingerprint is not None:
        write_json(data, {"fingerprint": data_fingerprint} | ({"micrographs": micrographs} if micrographs else {}))
    with whole_or_absent(saved) as partial:
        save_options(options, partial)
    return folder


def _changed_micrographs(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs first in what micrographs are, as "the labels of a (and 2 more micrographs)"; "" if nothing does."""
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if not names:
        return ""
    if names[0] not in before or names[0] not in now:
        return f"the list of micrographs, {names[0]} {'in' if names[0] in before else 'not in'} it before,"
    pairs = zip(before[names[0]].split(", "), now[names[0]].split(", "), strict=True)
    parts = [one.split()[0] for one, other in pairs if one != other]
    what = f"the {parts[0]} of {names[0]}" if parts[0] in ("pixels", "labels") else f"the side of {names[0]}"
    return f"{what} (and {len(names) - 1} more micrographs)" if len(names) > 1 else what


def set_aside_if_changed(folder: str | Path, options: object) -> None:
    """Rename a folder whose run had other options (another `data`, say) to `<folder>.1` or the next free number."""
    folder = Path(folder)
    saved = folder / "config.yaml"
    if saved.exists() and changed_keys(options, saved):
        number = 1
        while folder.with_name(f"{folder.name}.{number}").exists():
            number += 1
        folder.rename(folder.with_name(f"{folder.name}.{number}"))


def lock_run(folder: str | Path) -> None:
    """Keep other processes from running in `folder` until this one ends, however it ends.

    A requeued job waits for its former self, which may still be dying on another node. On a file system without locks
    the run goes on with a warning. A process that ends before it has computed anything, for an option was wrong,
    removes the folder: the corrected options may have the same name.

    Raises:
        InputError: when another process runs there; the message names its job and host.
    """
    if fcntl is None:
        atexit.register(_remove_unless_begun, Path(folder).resolve())
        return
    job = os.environ.get("SLURM_JOB_ID", "")
    # The descriptor stays open on purpose: the lock lasts as long as the process. POSIX record locks, unlike flock,
    # are not inherited by loader workers that outlive a killed parent, and work on network file systems.
    descriptor = os.open(Path(folder) / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    take = partial(fcntl.lockf, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    deadline = time.monotonic() + REQUEUE_SECONDS
    while True:
        if try_lock(take, Path(folder)):
            break
        holder = os.pread(descriptor, 1024, 0).decode(errors="replace")
        if not (job and holder.startswith(f"job {job} ")) or time.monotonic() > deadline:
            raise InputError(
                f"{folder} is in use by {holder or 'another process'}: wait for it, or give this run another name="
            )
        time.sleep(1)
    os.ftruncate(descriptor, 0)
    name = f"job {job} " if job else ""
    tell_folder(folder)
    os.pwrite(descriptor, f"{name}process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    atexit.register(_remove_unless_begun, Path(folder).resolve())


def _remove_unless_begun(folder: Path) -> None:
    """Remove a run's folder in which nothing but the run's options stands."""
    made = (path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file())
    if set(made) <= BEFORE_THE_START:
        shutil.rmtree(folder, ignore_errors=True)


def tell_folder(folder: str | Path) -> None:
    """Tell the batch script (slurm/restartable.sh) where the run is, in the file that it names.

    There it looks for new checkpoints when the job has crashed.
    """
    if told := os.environ.get(RUN_FILE):
        Path(told).write_text(f"{Path(folder).resolve()}\n", encoding="utf-8")
