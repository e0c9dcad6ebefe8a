"""The protocol that a stage's controller runs, and its positions in the files of other programs."""

import csv
import io
import json
from importlib import resources
from pathlib import Path

import numpy as np

from sempre import __version__
from sempre.errors import InputError
from sempre.files import whole_or_absent, write_json
from sempre.scan.fields import Fields
from sempre.scan.plan import Plan, TimingOptions, acquisition_s, travel_times
from sempre.scan.preview import Calibration, Preview

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
    file = resources.files("sempre.scan").joinpath("scan_protocol.schema.json")
    return json.loads(file.read_text(encoding="utf-8"))


WRITERS = ("serialem", "pyjem", "swift")


def write_coordinates(folder: str | Path, program: str, protocol: dict) -> Path:
    """Write the fields of a protocol for one program, whole or absent; the file's path.

    - `serialem`: `scan_serialem.nav`, points marked for acquisition, um.
    - `pyjem`: `scan_pyjem.csv`, nm, as PyJEM's `Stage3.SetX(x)` and `SetY(y)` take them.
    - `swift`: `scan_swift.json`, m, as Nion Swift's instrument controls take them.

    Raises:
        InputError: for another program.
    """
    if program not in WRITERS:
        raise InputError(f"coordinates={program} is unknown: choose {', '.join(WRITERS)}")
    make, name = {
        "serialem": (serialem_navigator, "scan_serialem.nav"),
        "pyjem": (pyjem_positions, "scan_pyjem.csv"),
        "swift": (swift_positions, "scan_swift.json"),
    }[program]
    path = Path(folder) / name
    with whole_or_absent(path) as partial:
        partial.write_text(make(protocol), encoding="utf-8", newline="\n")
    return path


def serialem_navigator(protocol: dict) -> str:
    """A SerialEM navigator file in its autodoc format, a point an item, marked for acquisition.

    After SerialEM's help, "File Formats", section "Navigator Files": https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm
    """
    lines = ["AdocVersion = 2.00", ""]
    for field in protocol["fields"]:
        x, y = field["stage_x_um"], field["stage_y_um"]
        lines += [
            f"[Item = {field['order']}]",
            "Color = 0",
            f"StageXYZ = {x:.4f} {y:.4f} 0",
            "NumPts = 1",
            "Regis = 1",
            "Type = 0",
            f"Note = priority {field['priority']:.3f}",
            "Acquire = 1",
            f"PtsX = {x:.4f}",
            f"PtsY = {y:.4f}",
            "",
        ]
    return "\n".join(lines)


def pyjem_positions(protocol: dict) -> str:
    """A CSV of order, x and y in nm, and priority.

    They are absolute, for `SetX` and `SetY` of PyJEM's `TEM3.Stage3()`, which take nm within ±100,000 ("units may vary
    depending on the model"); its `SetPosition(x, y)` takes relative ones, and would go elsewhere:
    https://pyjem.github.io/PyJEM/1.3.0.3564/interface/PyJEM.TEM3.html
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("order", "x_nm", "y_nm", "priority"))
    for field in protocol["fields"]:
        row = (field["order"], f"{field['stage_x_um'] * 1e3:.1f}", f"{field['stage_y_um'] * 1e3:.1f}")
        writer.writerow((*row, f"{field['priority']:.4f}"))
    return text.getvalue()


def swift_positions(protocol: dict) -> str:
    """JSON of the positions in m and the field's width, for a script in Nion Swift.

    Swift's lengths are m; a script gives them to the instrument's controls, `set_control_output(name, value)`, after
    Nion Swift's "Hardware Guide": https://nionswift.readthedocs.io/en/stable/api/hardware.html
    """
    positions = [
        {"x": field["stage_x_um"] * 1e-6, "y": field["stage_y_um"] * 1e-6, "priority": field["priority"]}
        for field in protocol["fields"]
    ]
    content = {"unit": "m", "fov": protocol["field_of_view_um"] * 1e-6, "positions": positions}
    return json.dumps(content, indent=1) + "\n"
