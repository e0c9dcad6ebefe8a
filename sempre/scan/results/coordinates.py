"""A protocol's positions in the files of other programs. Written, never sent: a person loads them there."""

import csv
import io
import json
from pathlib import Path

from sempre.errors import InputError
from sempre.files import whole_or_absent

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
