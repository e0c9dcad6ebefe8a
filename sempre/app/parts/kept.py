"""What a browser tab keeps from page to page, and in a saved session: values of widgets, files and clicks."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from sempre.deploy.batches.naming import portable

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
