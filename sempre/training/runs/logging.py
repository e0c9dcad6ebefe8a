"""What a run says: a progress bar for the person, TensorBoard for the browser, JSON lines for programs."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from sempre.files import whole_or_absent, without_nan

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
