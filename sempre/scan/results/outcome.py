"""What a planned scan leaves behind: the protocol, the map, the blobs and the curves, worked out once and written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sempre.embeddings.encoding.encoder import Encoder
from sempre.scan.act.plan import Plan
from sempre.scan.act.threshold import Blob, blobs_of
from sempre.scan.calibration import Calibration
from sempre.scan.preview import Preview
from sempre.scan.results.artefacts import write_efficiency, write_map, write_quantification
from sempre.scan.results.efficiency import Curve, Targets, compare
from sempre.scan.results.protocol import protocol_of, write_protocol
from sempre.scan.stages.explore import ExploreOptions
from sempre.scan.think.decision import Decision
from sempre.scan.think.patches import Patches


@dataclass(frozen=True)
class Outcome:
    """The priority of every px float32 `[H, W]`, labels int32 `[H, W]` of its blobs, the blobs, the protocol as JSON
    holds it, and the efficiency curves by strategy."""

    priority_map: np.ndarray
    labels: np.ndarray
    blobs: list[Blob]
    protocol: dict
    curves: dict[str, Curve]
    calibration: Calibration


def outcome_of(
    preview: Preview,
    patches: Patches,
    decision: Decision,
    plan: Plan,
    encoder: Encoder,
    calibration: Calibration,
    options: ExploreOptions,
) -> Outcome:
    """All that is written of a plan, which `decision` was made for by what `encoder` saw."""
    priority_map = patches.to_map(decision.priority)
    labels, blobs = blobs_of(priority_map, plan.least, gap=options.stride)
    protocol = protocol_of(plan, preview, calibration, options, how(encoder, decision, options))
    targets = Targets.of_priority(patches.centres, decision.priority, plan.least)
    curves = compare(plan.fields, calibration, options, targets, plan.start, options.overlap, options.seed)
    return Outcome(priority_map, labels, blobs, protocol, curves, calibration)


def how(encoder: Encoder, decision: Decision, options: ExploreOptions) -> dict:
    """How priorities came about, for the protocol."""
    return {
        "backbone": encoder.name,
        "encoder_sha256": encoder.checksum,
        "layer": encoder.layer,
        "scales_px": list(options.scales),
        "stride_px": options.stride,
        "anomaly": options.anomaly,
        "weights": decision.weights,
        "text": list(options.text),
        "without": list(options.without),
        "seed": options.seed,
    }


def write_outcome(folder: str | Path, outcome: Outcome, particles: Mapping[int, int] | None = None) -> None:
    """Write `scan_protocol.json`, the map, `quantification.csv` and `efficiency.csv`, each whole or absent.

    `particles` are how many lie in each blob, by its id.
    """
    folder = Path(folder)
    write_protocol(folder / "scan_protocol.json", outcome.protocol)
    write_map(folder, outcome.priority_map, outcome.calibration.pixel_size_nm)
    write_quantification(folder / "quantification.csv", outcome.blobs, outcome.calibration, particles)
    write_efficiency(folder / "efficiency.csv", outcome.curves)
