"""A long batch of `sempre segment`, left alone and killed again and again: no file may be lost, no result may differ.

    python tools/soak.py out=runs/soak    5,000 small micrographs, 3 of 20,000 px, 20 kills
    python tools/soak.py out=runs/soak micrographs=200 large=1 large_side=4000 kills=5

Micrographs are rendered, in turn as TIFF, PNG and JPEG; the large ones are memory-mapped TIFFs. One run is left alone:
its memory is looked at all along. Another is killed with SIGKILL at random moments of as much computing, and started
again with the same command. Both must end with the same files, byte for byte.
"""

import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import tifffile
from PIL import Image

from sempre.config import read_options
from sempre.errors import InputError, run_command
from sempre.ranges import Count, CountOrZero, Range, Seed
from sempre.synthetic import render_field

SUFFIXES = ("tif", "png", "jpg")
POLL = 0.05  # s
GROWTH = 0.10  # by which a batch's memory may grow
PARTS = 5  # of a batch, whose peaks of memory are compared


@dataclass(kw_only=True)
class Options:
    out: str = "???"  # folder for micrographs and results: empty, or of an earlier soak
    micrographs: Count = 5000  # number of small micrographs
    side: Annotated[int, Range(64)] = 96  # side of the small micrographs, px
    fields: Count = 50  # number of rendered ones; the others add other noise
    large: CountOrZero = 3  # number of large micrographs
    large_side: Count = 20_000  # side of the large micrographs, px
    kills: CountOrZero = 20  # number of kills of each batch
    model: str = ""  # folder of the bundle; empty: the released model
    seed: Seed = 0  # random seed of renders, noise and times of the kills


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    out = Path(options.out)
    small, large = out / "micrographs/small", out / "micrographs/large"
    render_small(small, options)
    render_large(large, options)
    failures = []
    for folder in [folder for folder, many in ((small, options.micrographs), (large, options.large)) if many]:
        alone, killed = out / "alone" / folder.name, out / "killed" / folder.name
        if alone.exists() or killed.exists():
            raise InputError(f"{out} holds results of an earlier soak: remove {alone} and {killed}")
        peaks, starting, computed = run_alone(folder, alone, options)
        grown = peaks[-1] / peaks[0] - 1
        each = ", ".join(f"{peak / 2**20:.0f}" for peak in peaks)
        print(
            f"{folder.name}: {len(list(folder.iterdir()))} micrographs in {computed:.0f} s of one thread, memory at "
            f"most {each} MB from part to part",
            flush=True,
        )
        kills = run_killed(folder, killed, options, starting, computed)
        differing = differences(alone, killed)
        print(f"{folder.name}: memory grown by {grown:+.1%}, killed {kills} times, {len(differing)} files differ")
        failures += differing
        if grown > GROWTH:
            failures.append(f"{folder.name}: memory grew by {grown:.1%}")
    for failure in failures[:20]:
        print(f"  {failure}")
    return int(bool(failures))


def render_small(folder: Path, options: Options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fields = []
    for number in range(options.micrographs):
        path = folder / f"{number:05d}.{SUFFIXES[number % len(SUFFIXES)]}"
        if path.exists():
            continue
        if not fields:
            seeds = range(options.seed, options.seed + min(options.fields, options.micrographs))
            fields = [render_field(seed, (options.side, options.side)).pixels for seed in seeds]
        noise = np.random.default_rng([options.seed, number]).normal(0, 2, (options.side, options.side))
        Image.fromarray((fields[number % len(fields)] + noise).clip(0, 255).astype(np.uint8)).save(path)


def render_large(folder: Path, options: Options) -> None:
    """Large micrographs, written tile by tile: one is never in memory as a whole.

    All show the same field with other noise, so that one should take the memory that another takes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(options.large):
        path = folder / f"large-{number}.tif"
        if path.exists():
            continue
        side, tile = options.large_side, min(1024, options.large_side)
        pixels = tifffile.memmap(path, shape=(side, side), dtype=np.uint8)
        field = render_field(options.seed, (tile, tile)).pixels
        for y in range(0, side, tile):
            for x in range(0, side, tile):
                place = pixels[y : y + tile, x : x + tile]
                noise = np.random.default_rng([options.seed, number, y, x]).normal(0, 2, place.shape)
                place[:] = (field[: place.shape[0], : place.shape[1]] + noise).clip(0, 255)
        pixels.flush()


def start(folder: Path, out: Path, options: Options) -> psutil.Popen:
    model = ["--model", options.model] if options.model else []
    command = [
        sys.executable,
        "-m",
        "sempre.deploy.command",
        "segment",
        str(folder),
        "--out",
        str(out),
        "--threads",
        "1",
    ]
    return psutil.Popen([*command, *model, "--format", "tif,csv,rois"], stdout=subprocess.DEVNULL)


def run_alone(folder: Path, out: Path, options: Options) -> tuple[list[float], float, float]:
    """The peak of memory in bytes in each fifth of the batch, or at each of its micrographs where they are fewer, the
    seconds that it computed before its first micrograph, and in all."""
    process = start(folder, out, options)
    micrographs = len(list(folder.iterdir()))
    peaks, starting, computed = [0.0] * min(PARTS, micrographs), 0.0, 0.0
    while process.poll() is None:
        try:
            computed = sum(process.cpu_times()[:2])
            if (out / "summary.csv").exists():
                done = (out / "summary.csv").read_bytes().count(b"\n") - 1
                if done < micrographs:  # the statistics of the whole batch come after its last micrograph
                    part = max(done, 0) * len(peaks) // micrographs
                    peaks[part] = max(peaks[part], process.memory_info().rss)
            else:
                starting = computed
        except psutil.Error:  # it has just ended
            break
        time.sleep(POLL)
    if process.wait() != 0:
        raise InputError(f"the batch left alone ended with code {process.returncode}: look at {out}/summary.csv")
    return [peak for peak in peaks if peak], starting, computed  # a short part may pass between two looks


def run_killed(folder: Path, out: Path, options: Options, starting: float, computed: float) -> int:
    """Kill the batch after random shares of its work, then let it end; how often it was killed before it was done."""
    random = np.random.default_rng(options.seed)
    for number in range(options.kills):
        process = start(folder, out, options)
        lives = starting + random.uniform(0, 2) * (computed - starting) / (options.kills + 1)
        while process.poll() is None and sum(process.cpu_times()[:2]) < lives:
            time.sleep(POLL / 10)
        if process.poll() is not None:
            return number
        process.kill()
        process.wait()
    if start(folder, out, options).wait() != 0:
        raise InputError(f"the batch that was killed could not end: look at {out}/summary.csv")
    return options.kills


def differences(alone: Path, killed: Path) -> list[str]:
    """What is in one folder and not in the other, or not the same; and what a killed run has left behind."""
    first, second = contents(alone), contents(killed)
    names = sorted(first.keys() | second.keys())
    return [f"{name} differs" for name in names if first.get(name) != second.get(name)]


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    run_command(main)
