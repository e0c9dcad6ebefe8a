"""What a planned scan finds: share of the true defects against area and time, and how soon the map is there.

    python tools/bench_scan.py                      # three rendered sets, five seeds: some minutes of one core
    python tools/bench_scan.py seeds=[0] anomalies=[isolation_forest,bulk,neighbours] latency=false

Every sample is rendered with its defects (`sempre.synthetic.known_defects`). Without a click the priority is
the strangeness alone; one click is on a defect drawn by the seed, and "mixed" is the mean of both. Fields are `side` px
wide, and a defect is found when a field shows it (of a crack, the share that is shown). Raster, serpentine, random and
oracle scan the same preview by the same fields. "Active" looks at its fields one after the other and is told by the
truth what each shows.
"""

import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from sempre.config import read_options
from sempre.errors import run_command
from sempre.frozen.encoder import Encoder, open_encoder
from sempre.frozen.prototypes import Clicks
from sempre.ranges import Count, Index, NotEmpty, Numbers, OneOf, Positive
from sempre.scan.explore import ExploreOptions, explore
from sempre.scan.fields import Fields, cover
from sempre.scan.outcome import Targets, compare
from sempre.scan.patches import see
from sempre.scan.plan import acquisition_s, best_within, shortest_path, travel_times
from sempre.scan.preview import Calibration, prepare
from sempre.scan.priorities import ThinkOptions, decide
from sempre.scan.stages import SimulatedStage
from sempre.synthetic.known_defects import SAMPLES, Defects, Sample, render_sample

FREE, CLICKED = 0.15, 0.10  # of the area: the goals' budgets without a click and after one
NO_POINTS = np.zeros((0, 2))

Samples = Annotated[list[str], OneOf(*SAMPLES), NotEmpty()]


@dataclass(kw_only=True)
class Options(ThinkOptions):
    samples: Samples = field(default_factory=lambda: list(SAMPLES))  # samples to scan
    seeds: Numbers = field(default_factory=lambda: [10, 11, 12, 13, 14])  # random seeds of the renders
    size: Count = 1024  # side of the previews, px
    side: Positive = 64.0  # side of a field, px
    anomalies: list[str] = field(default_factory=lambda: ["isolation_forest", "bulk", "neighbours"])  # compared
    backbone: str = "particles"  # as in tools/scan.py
    layer: Index = 0  # layer of the backbone to read
    active: bool = True  # also measure the closed loop
    latency: bool = True  # also measure times
    repeats: Count = 5  # repeats of each timing; the median is reported
    threads: Count = 2  # threads of the network


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    torch.set_num_threads(options.threads)
    encoder = open_encoder(options.backbone, layer=options.layer, seed=options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.samples:
            rows: dict[str, list[float]] = defaultdict(list)
            for seed in options.seeds:
                measure(render_sample(name, seed, (options.size, options.size)), encoder, options, seed, rows, scratch)
            print(f"\n{name}, {len(options.seeds)} samples: share of the defects found")
            for row, values in rows.items():
                print(f"  {row:<58} {np.mean(values):.3f}   {' '.join(f'{value:.2f}' for value in values)}")
        if options.latency:
            measure_latency(encoder, options, scratch)
    return 0


def measure(
    sample: Sample, encoder: Encoder, options: Options, seed: int, rows: dict[str, list[float]], scratch: str
) -> None:
    """Add a sample's shares to `rows`."""
    preview = prepare(sample.pixels, sample.pixel_size_nm)
    patches = see(preview, encoder, options, scratch)
    calibration = Calibration(preview.pixels.shape, preview.pixel_size_nm)
    targets = Targets(sample.defects.sites, sample.defects.weights)
    timing = ExploreOptions()
    for anomaly in options.anomalies:
        priority = decide(preview, patches, with_(options, anomaly=anomaly)).priority
        for area in (FREE, CLICKED):
            fields = cover(patches, priority, options.side, area=area)
            rows[f"{anomaly}, no click, {area:.0%} of the area"].append(found(fields, targets))
    decision = decide(preview, patches, options)
    clicks = one_click(sample.defects, seed)
    clicked = decide(preview, patches, options, clicks, decision.parts)
    alone = decide(preview, patches, with_(options, anomaly_weight=0.0), clicks)
    for name, thought in (("one click alone", alone), ("one click, mixed", clicked)):
        fields = cover(patches, thought.priority, options.side, area=CLICKED)
        rows[f"{name}, {CLICKED:.0%} of the area"].append(found(fields, targets))
    own = np.array([kind == kind_of(sample.defects, clicks) for kind in sample.defects.kinds])[sample.defects.owner]
    of_kind = Targets(targets.points[own], targets.weights[own] / targets.weights[own].sum())
    rows[f"one click alone, defects of its kind, {CLICKED:.0%} of the area"].append(
        found(cover(patches, alone.priority, options.side, area=CLICKED), of_kind)
    )

    # Against paths without a plan, by area and in the time that the planned one takes.
    fields = cover(patches, decision.priority, options.side, area=FREE)
    start = np.array(calibration.centre_um)
    times = travel_times(np.concatenate([start[None], calibration.to_stage(fields.centres)]), timing)
    planned = fields[shortest_path(times) - 1]
    curves = compare(planned, calibration, timing, targets, start, seed=seed)
    seconds = float(curves["planned"].seconds[-1])
    for name in ("raster", "serpentine", "random", "oracle"):
        rows[f"{name}, {FREE:.0%} of the area"].append(curves[name].at_area(FREE))
    rows["planned, in the time that it takes"].append(float(curves["planned"].coverage[-1]))
    for name in ("raster", "serpentine", "random", "oracle"):
        rows[f"{name}, in the same time"].append(curves[name].at_time(seconds))
    half = best_within(times, acquisition_s(timing), fields.priority, seconds / 2)
    rows["planned for half of that time"].append(found(fields[half - 1], targets))
    if options.active:
        rows[f"active, {CLICKED:.0%} of the area"].append(
            follow_truth(sample, preview, patches, decision, calibration, options, scratch, targets, CLICKED)
        )


def found(fields: Fields, targets: Targets) -> float:
    """The share of the targets that the fields show together."""
    return float(targets.weights @ fields.contain(targets.points).any(axis=0)) if len(fields) else 0.0


def with_(options: Options, **changes) -> ThinkOptions:
    """The options for deciding, some changed."""
    names = ThinkOptions.__dataclass_fields__
    return ThinkOptions(**({name: getattr(options, name) for name in names} | changes))


def one_click(defects: Defects, seed: int) -> Clicks:
    """A click on the middle site of a defect drawn by the seed."""
    chosen = int(np.random.default_rng(seed).integers(len(defects.kinds)))
    sites = defects.sites[defects.owner == chosen]
    return Clicks(sites[len(sites) // 2][None], NO_POINTS)


def kind_of(defects: Defects, clicks: Clicks) -> str:
    """The kind of the defect that was clicked."""
    nearest = np.linalg.norm(defects.sites - clicks.positive[0], axis=1).argmin()
    return defects.kinds[defects.owner[nearest]]


def follow_truth(sample, preview, patches, decision, calibration, options, scratch, targets, area) -> float:
    """The share that a loop finds which is told of every field whether it shows a defect."""
    budget = ExploreOptions(
        **vars(with_(options)),
        threshold="none",
        area_percent=100 * area,
        field_um=options.side * calibration.um_per_px,
        field_px=64,
    )
    stage = SimulatedStage(sample.pixels, calibration, budget)

    def judge(image: np.ndarray, centre: tuple[float, float]) -> bool:
        return bool(Fields(np.array([centre]), np.zeros(1), options.side).contain(targets.points).any())

    log = Path(scratch) / "log.jsonl"
    log.unlink(missing_ok=True)
    done = explore(stage, preview, patches, decision, None, calibration, budget, log, judge)
    return found(Fields(np.array(done.visited).reshape(-1, 2), np.zeros(len(done.visited)), options.side), targets)


def measure_latency(encoder: Encoder, options: Options, scratch: str) -> None:
    """Print how long a first map takes, and one after a click."""
    print(f"\nlatency, median of {options.repeats}, {options.threads} threads of the network")
    for size in (512, 1024):
        cold, features, again = [], [], []
        for repeat in range(options.repeats + 1):  # the first one warms up the libraries
            sample = render_sample("perovskite", 100 + repeat, (size, size))
            started = time.perf_counter()
            preview = prepare(sample.pixels, sample.pixel_size_nm)
            patches = see(preview, encoder, options, scratch)
            features.append(time.perf_counter() - started)
            decision = decide(preview, patches, options)
            patches.to_map(decision.priority)
            cold.append(time.perf_counter() - started)
            clicks = one_click(sample.defects, repeat)
            started = time.perf_counter()
            patches.to_map(decide(preview, patches, options, clicks, decision.parts).priority)
            again.append(time.perf_counter() - started)
        medians = (1e3 * np.median(times[1:]) for times in (features, cold, again))
        print("  {} px: features {:.0f} ms, first map {:.0f} ms, after a click {:.0f} ms".format(size, *medians))


if __name__ == "__main__":
    run_command(main)
