"""What a browser tab keeps from page to page, and a session as a ZIP."""

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import streamlit as st

from sempre.deploy.inputs import portable
from sempre.errors import InputError, one_input_error
from sempre.files import parse_json

SIDES = ("positive", "negative")  # of clicks; spelt here, for what reads them elsewhere needs PyTorch
PREFIX = "keep."  # of the keys of widgets whose values are kept; a value that was never set is its widget's default


@dataclass(frozen=True)
class Upload:
    """A file that was dropped, in the tab's own temporary folder, under its own name."""

    path: Path
    sha256: str


def keep_values() -> None:
    """Streamlit forgets the values of widgets that a page does not show; setting them is how they are kept."""
    for key in list(st.session_state):
        if str(key).startswith(PREFIX):
            st.session_state[key] = st.session_state[key]


def default(name: str, value: object) -> str:
    """The key of a kept widget, which shows `value` until another is chosen."""
    st.session_state.setdefault(PREFIX + name, value)
    return PREFIX + name


def value(name: str, otherwise: object = None) -> Any:
    """The value of a kept widget, on any page."""
    return st.session_state.get(PREFIX + name, otherwise)


def folder() -> Path:
    """The tab's temporary folder, which is removed with its session."""
    if "folder" not in st.session_state:
        st.session_state["folder"] = tempfile.TemporaryDirectory(prefix="sempre-app-", ignore_cleanup_errors=True)
    return Path(st.session_state["folder"].name)


def store(name: str, content: bytes | memoryview) -> Upload:
    """Keep a file by its content: the same file twice is one."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder() / sha256[:16] / portable(Path(name).name)
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return Upload(path, sha256)


def uploads(name: str) -> list[Upload]:
    """The files that were dropped for `name`."""
    return st.session_state.setdefault(f"files.{name}", [])


def uploader(label: str, name: str, several: bool = False, help: str | None = None) -> list[Upload]:
    """A place to drop files. They stay when another page is shown; what is dropped next takes their place."""
    given: Any = st.file_uploader(label, accept_multiple_files=several, key=f"upload.{name}", help=help)
    dropped = given if several else [given] if given else []
    seen = tuple(file.file_id for file in dropped)
    if dropped and seen != st.session_state.get(f"seen.{name}"):
        st.session_state[f"files.{name}"] = [store(file.name, file.getbuffer()) for file in dropped]
        st.session_state[f"seen.{name}"] = seen
    elif uploads(name) and not dropped:
        st.caption(f"In use: {', '.join(upload.path.name for upload in uploads(name))}")
    return uploads(name)


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
