"""The protocol that a stage's controller runs, as JSON; `scan_protocol.schema.json` describes it."""

import json
from importlib import resources
from pathlib import Path

import numpy as np

from sempre import __version__
from sempre.errors import InputError
from sempre.files import write_json
from sempre.scan.act.fields import Fields
from sempre.scan.act.plan import Plan
from sempre.scan.act.timing import TimingOptions, acquisition_s, travel_times
from sempre.scan.calibration import Calibration
from sempre.scan.preview import Preview

FORMAT = 1


def protocol_of(plan: Plan, preview: Preview, calibration: Calibration, timing: TimingOptions, decision: dict) -> dict:
    """The protocol as JSON holds it; `decision` says how priorities came about: backbone, layer, parts and seed."""
    fields = plan.fields
    stage = calibration.to_stage(fields.centres)
    travel = travel_times(np.concatenate([plan.start[None], stage]), timing)
    travel = [float(travel[step, step + 1]) for step in range(len(fields))]
    return {
        "format": FORMAT,
        "sempre_version": __version__,
        "preview": {
            "name": preview.name,
            "sha256": preview.sha256s[0],
            "height_px": preview.pixels.shape[0],
            "width_px": preview.pixels.shape[1],
            **({"enlarged": list(preview.enlarged)} if preview.enlarged != (1.0, 1.0) else {}),
        },
        "calibration": {
            "pixel_size_nm": calibration.pixel_size_nm,
            "centre_um": list(map(float, calibration.centre_um)),
            "rotation_deg": calibration.rotation_deg,
            "mirrored": calibration.mirrored,
        },
        "decision": decision,
        "least_priority": plan.least,
        "start_um": plan.start.tolist(),
        "field_of_view_px": fields.side,
        "field_of_view_um": fields.side * calibration.um_per_px,
        "field_px": timing.field_px,
        "dwell_us": timing.dwell_us,
        "seconds": sum(travel) + len(fields) * acquisition_s(timing),
        "fields": [
            {
                "order": order,
                "x_px": float(x),
                "y_px": float(y),
                "x_nm": float(x * calibration.pixel_size_nm),
                "y_nm": float(y * calibration.pixel_size_nm),
                "stage_x_um": float(stage_x),
                "stage_y_um": float(stage_y),
                "priority": float(priority),
                "dwell_us": timing.dwell_us,
                "field_of_view_um": fields.side * calibration.um_per_px,
                "travel_s": seconds,
            }
            for order, ((y, x), (stage_x, stage_y), priority, seconds) in enumerate(
                zip(fields.centres, stage, fields.priority, travel, strict=True), start=1
            )
        ],
    }


def write_protocol(path: str | Path, protocol: dict) -> None:
    """Write a protocol. Whole or absent."""
    write_json(path, protocol)


def read_protocol(path: str | Path) -> dict:
    """A protocol from its file.

    Raises:
        InputError: for a file that holds none.
    """
    try:
        protocol = json.loads(Path(path).read_text(encoding="utf-8"))
        fields_of(protocol)
        calibration_of(protocol)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the scan_protocol.json of tools/scan.py") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no scan protocol ({error}): plan the scan again") from error
    return protocol


def fields_of(protocol: dict) -> Fields:
    """The fields of a protocol, in their order."""
    entries = sorted(protocol["fields"], key=lambda entry: entry["order"])
    centres = np.array([[entry["y_px"], entry["x_px"]] for entry in entries], np.float64).reshape(-1, 2)
    priority = np.array([entry["priority"] for entry in entries], np.float64)
    return Fields(centres, priority, float(protocol["field_of_view_px"]))


def calibration_of(protocol: dict) -> Calibration:
    """The calibration of a protocol."""
    preview = protocol["preview"]
    fields = dict(protocol["calibration"])
    fields["centre_um"] = tuple(fields["centre_um"])
    return Calibration((preview["height_px"], preview["width_px"]), **fields)


def schema() -> dict:
    """The JSON schema of a protocol."""
    file = resources.files("sempre.scan.results").joinpath("scan_protocol.schema.json")
    return json.loads(file.read_text(encoding="utf-8"))
