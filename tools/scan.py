"""Where to look next: from a quick preview to a protocol that a stage's controller runs.

    python tools/scan.py preview=preview.tif out=scan                                          # what is rare
    python tools/scan.py preview=preview.tif clicks=clicks.json area_percent=10 out=scan       # what is like the clicks
    python tools/scan.py preview=preview.tif minutes=20 coordinates=[serialem] out=scan        # in 20 minutes of beam

`out` then holds `scan_protocol.json` (fields in their order: px, nm, stage um, priority, dwell), `efficiency.csv`
(coverage against area and time, beside raster, serpentine, random and oracle), `scan_map.npy` and `scan_map.ome.tif`
(the priority map), `quantification.csv` (blobs), `scan.png` (to look at) and, for each of `coordinates`, a file for
SerialEM, PyJEM or Nion Swift. `clicks.json` names the preview and points on it, y and x in px:
{"preview.tif": {"positive": [[120, 340]], "negative": []}}.

Nothing moves by itself. `driver=` names what moves: `simulator`, which takes `sample=` for the sample, or a class of
your own as `module:Class`. With `limits_um=` the moves are listed and checked, and only `go=true` makes them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from sempre.config import read_options, save_options
from sempre.deploy.released import find_bundle
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError, run_command
from sempre.files import whole_or_absent
from sempre.frozen.encoder import open_encoder
from sempre.frozen.prototypes import Clicks, read_clicks
from sempre.ranges import Finite, Index, Items, OneOf, PositiveOrZero, Range, Share
from sempre.report.figures import draw_scan
from sempre.scan.explore import ExploreOptions, explore
from sempre.scan.fields import Blob
from sempre.scan.outcome import outcome_of, write_outcome
from sempre.scan.patches import Patches, see
from sempre.scan.plan import Plan, make_plan
from sempre.scan.preview import Calibration, Preview, read_preview
from sempre.scan.priorities import Decision, decide
from sempre.scan.protocol import WRITERS, write_coordinates
from sempre.scan.stages import SimulatorOptions, check_limits, list_moves, open_stage

Position = Annotated[list[float], Items(2), Range()]
Programs = Annotated[list[str], OneOf(*WRITERS)]


@dataclass(kw_only=True)
class Options(ExploreOptions, SimulatorOptions):
    preview: str = "???"  # micrograph of low magnification
    out: str = "???"  # output folder
    backbone: str = "particles"  # backbone/ folder, official .pth, timm's name, random:<name>, intensity or particles
    weights: str = ""  # DINO or DINOv2 file, if backbone= is a name
    layer: Index = 0  # backbone layer to read; 0: the first, the finest; vision transformers: a late one
    clicks: str = ""  # JSON file of clicks on the preview
    denoise: Annotated[float, Range(0, 15)] = 0.0  # side of a median filter for the preview, px; 0: none
    clahe: Share = 0.0  # clip limit of adaptive histogram equalisation; 0: none; 0.01 is usual
    pixel_size_nm: PositiveOrZero = 0.0  # pixel size of the preview, nm; 0: from its file
    pixel_size_y_nm: PositiveOrZero = 0.0  # pixel height, nm; 0: same as pixel_size_nm=
    centre_um: Position = field(default_factory=lambda: [0.0, 0.0])  # x and y of the stage at the preview's centre, um
    rotation_deg: Finite = 0.0  # angle from the preview's x axis to the stage's, degrees
    mirrored: bool = True  # true: the stage's y grows upwards in the preview
    bundle: str = ""  # model that counts particles in each blob: particles, or a bundle's folder
    coordinates: Programs = field(default_factory=list)  # other programs to write positions for
    embeddings: str = "runs/embeddings"  # cache folder for the embeddings of previews
    driver: str = ""  # stage driver: simulator, or your module:Class; empty: nothing moves
    sample: str = ""  # for driver=simulator: micrograph of the sample; empty: the preview
    go: bool = False  # make the moves; false: only list them


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    check(options)
    out = Path(options.out)
    preview = read_preview(
        options.preview, options.pixel_size_nm, options.denoise, options.clahe, options.pixel_size_y_nm
    )
    if preview.enlarged != (1.0, 1.0):
        more = "{:.4g} times its rows and {:.4g} times its columns".format(*preview.enlarged)
        print(f"the preview's pixels are not square: {more} make them so, and px in what is written count these")
    x_um, y_um = options.centre_um
    calibration = Calibration(
        preview.pixels.shape, preview.pixel_size_nm, (x_um, y_um), options.rotation_deg, options.mirrored
    )

    # See.
    encoder = open_encoder(options.backbone, options.weights, options.layer, options.seed)
    patches = see(preview, encoder, options, options.embeddings)

    # Think.
    clicks = clicks_on(preview, options)
    decision = decide(preview, patches, options, clicks, embeddings=options.embeddings)

    # Act.
    plan = make_plan(patches, decision.priority, options, calibration)
    if not len(plan.fields):
        raise InputError("no field fits into the budget: give a larger area_percent= or minutes=")
    out.mkdir(parents=True, exist_ok=True)
    save_options(options, out / "config.yaml")
    outcome = outcome_of(preview, patches, decision, plan, encoder, calibration, options)
    particles = count_particles(preview, outcome.labels, outcome.blobs, options.bundle) if options.bundle else None
    write_outcome(out, outcome, particles)
    protocol, curves = outcome.protocol, outcome.curves
    for program in options.coordinates:
        write_coordinates(out, program, protocol)
    with whole_or_absent(out / "scan.png") as partial:
        picture = draw_scan(preview.pixels, outcome.priority_map, plan.fields, preview.pixel_size_nm)
        Image.fromarray(picture).save(partial, format="PNG")
    print(
        f"{len(plan.fields)} fields in {protocol['seconds'] / 60:.1f} min, {100 * curves['planned'].area[-1]:.1f} % of "
        f"the area and {100 * curves['planned'].coverage[-1]:.0f} % of the priority: look at {out / 'scan.png'}"
    )
    if options.driver:
        drive(preview, patches, decision, plan, clicks, calibration, options, out)
    return 0


def check(options: Options) -> None:
    if options.driver and not options.limits_um:
        raise InputError(f"driver={options.driver} may go anywhere: give limits_um=[x0,y0,x1,y1]")
    if options.go and not options.driver:
        raise InputError("go=true, but nothing to go: give driver=")


def clicks_on(preview: Preview, options: Options) -> Clicks | None:
    """The clicks on the preview, None without a file of them."""
    if not options.clicks:
        return None
    clicks = read_clicks(options.clicks, need_negative=False)
    if preview.name not in clicks:
        raise InputError(f"{options.clicks} has no clicks on {preview.name}, only on {', '.join(clicks)}")
    on_file = clicks[preview.name]
    return Clicks(on_file.positive * preview.enlarged, on_file.negative * preview.enlarged)


def count_particles(preview: Preview, labels: np.ndarray, blobs: list[Blob], bundle: str) -> dict[int, int]:
    """How many particles have their middle in each blob, by its id."""
    found = Segmenter(find_bundle(bundle)).segment(preview.pixels, preview.pixel_size_nm)
    own = [int(labels[int(particle.y), int(particle.x)]) for particle in found.particles]
    return {blob.id: own.count(blob.id) for blob in blobs}


def drive(
    preview: Preview,
    patches: Patches,
    decision: Decision,
    plan: Plan,
    clicks: Clicks | None,
    calibration: Calibration,
    options: Options,
    out: Path,
) -> None:
    """List the moves, and make them where that is wanted."""
    check_limits(calibration.to_stage(plan.fields.centres), options.limits_um)
    print(list_moves(plan.fields, calibration))
    if not options.go:
        print(f"nothing has moved: add go=true, and driver={options.driver} makes these moves")
        return
    with open_stage(
        options.driver, options.sample or options.preview, calibration, options, options, options.seed
    ) as stage:
        done = explore(
            stage,
            preview,
            patches,
            decision,
            clicks,
            calibration,
            options,
            out / "log.jsonl",
            micrographs=out / "fields",
        )
    print(
        f"{done.ended}: {len(done.visited)} fields visited, {len(done.skipped)} skipped, {done.seconds / 60:.1f} min "
        f"of stage and beam; micrographs in {out / 'fields'}, the log is {out / 'log.jsonl'}"
    )


if __name__ == "__main__":
    run_command(main)
