"""A session as a ZIP: `session.json` (clicks and options) and the dropped files."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

from sempre.app.parts.kept import Upload, store
from sempre.embeddings.segmentation.points import SIDES
from sempre.errors import InputError, one_input_error
from sempre.files import parse_json

FORMAT = 1
MOST_BYTES = 2 << 30  # of all files unpacked
MOST_FILES = 1000
DESCRIPTION = "session.json"
PLACES = ("micrographs", "preview")


def pack(files: Mapping[str, Sequence[Upload]], clicks: Mapping[str, dict], values: Mapping[str, object]) -> bytes:
    """The ZIP of a session; `clicks` by the SHA-256 of their preview, `values` by the names of their widgets."""
    content = {"format": FORMAT, "clicks": dict(clicks), "values": dict(values), "files": {}}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, uploads in files.items():
            names = [f"{place}/{number}/{upload.path.name}" for number, upload in enumerate(uploads)]
            content["files"][place] = names
            for name, upload in zip(names, uploads, strict=True):
                archive.write(upload.path, name)
        archive.writestr(DESCRIPTION, json.dumps(content, indent=1))
    return packed.getvalue()


def unpack(file: BinaryIO) -> tuple[dict[str, list[Upload]], dict[str, dict], dict[str, str | int | float | bool]]:
    """Files, clicks and values of a session; files are stored in the tab's own folder under their bare names.

    Raises:
        InputError: for what is no session, or unpacks to more than is allowed.
    """
    with one_input_error(lambda reason: f"this is no session of sempre ({reason}): open one that was saved here"):
        archive = zipfile.ZipFile(file)
        members = archive.infolist()
        if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
            raise InputError("the session unpacks to more than 2 GB or 1,000 files: drop its micrographs one by one")
        content = parse_json(archive.read(DESCRIPTION).decode("utf-8"))
        if content["format"] != FORMAT:
            raise InputError(f"the session has the format {content['format']}, this sempre opens {FORMAT}")
        files = {
            place: [store(PurePosixPath(name).name, archive.read(name)) for name in content["files"].get(place, [])]
            for place in PLACES
        }
        clicks = {
            str(sha256): {side: [[float(y), float(x)] for y, x in points.get(side, [])] for side in SIDES}
            for sha256, points in content["clicks"].items()
        }
        values = {
            str(name): value for name, value in content["values"].items() if isinstance(value, str | int | float | bool)
        }
    return files, clicks, values
