"""What a test reads from a run's folder."""

import json
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from sempre.training.run_folder import read_log

# Two micrographs a step, three steps an epoch; a checkpoint every one or two seconds.
TINY = (
    "architecture=convnextv2_atto",
    "batch=2",
    "warmup_epochs=1",
    "workers=0",
    "log_every=1",
    "precision=float32",
    "checkpoint_minutes=0.02",
)
RECIPES = {
    "fcmae": (*TINY, "epochs=16", "crop=64", "decoder_width=32", "panels=1"),
    "densecl": (*TINY, "epochs=10", "field=128", "crop=64", "negatives=4", "projection_width=32"),
    "dino": (*TINY, "epochs=10", "field=128", "global_size=64", "local_size=32", "local_views=2", "outputs=64"),
}


def losses(folder: Path, kind: str = "train") -> np.ndarray:
    """Losses in the order of the steps, each of which must be there once."""
    lines = [line for line in read_log(folder / "log.jsonl") if line["kind"] == kind]
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert kind != "train" or steps == list(range(1, len(steps) + 1))
    return np.array([line["loss"] for line in lines])


def logged(folder: Path) -> int:
    """Lines in the run's log."""
    return len(read_log(folder / "log.jsonl"))


def checkpoint_step(folder: Path) -> int:
    """The step of the newest checkpoint, 0 when there is none; the older one in the instant when they are swapped."""
    for name in ("last", "previous"):
        try:
            return json.loads((folder / "checkpoints" / name / "progress.json").read_text())["step"]
        except FileNotFoundError:
            continue
    return 0


def assert_same_weights(folder: Path, other: Path) -> None:
    """Backbone and last checkpoint agree in every bit."""
    for file in ("backbone/backbone.safetensors", "checkpoints/last/model.safetensors"):
        one, two = load_file(folder / file), load_file(other / file)
        assert one.keys() == two.keys()
        different = [name for name in one if one[name].tobytes() != two[name].tobytes()]
        assert not different, f"{file}: {len(different)} of {len(one)} tensors differ, {different[:3]}"


def wait_until(condition, what: str, timeout: float = 600) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout} s for {what}"
        time.sleep(0.05)
