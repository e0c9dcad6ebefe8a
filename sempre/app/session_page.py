"""The page Session: what a tab holds, as one file to save and to open again."""

import streamlit as st

from sempre.app.kept import PREFIX, pack, unpack
from sempre.app.messages import shown_errors


def show() -> None:
    st.write(
        "A session holds the dropped files, the clicks and all options. Results are not in it: they are made again "
        "by one click, and the same."
    )
    state = st.session_state
    files = {name: state.get(f"files.{name}", []) for name in ("micrographs", "preview")}
    # Read here: the file is made when it is asked for, in a thread that knows no session.
    clicks = state.get("clicks", {})
    values = {key.removeprefix(PREFIX): state[key] for key in map(str, state) if key.startswith(PREFIX)}
    st.download_button(
        "Save this session",
        lambda: pack(files, clicks, values),
        "session.sempre.zip",
        mime="application/zip",
        on_click="ignore",
        type="primary",
    )
    dropped = st.file_uploader("Open a session", type="zip", key="upload.session")
    if dropped is not None and state.get("opened") != dropped.file_id:
        with shown_errors():
            files, opened, values = unpack(dropped)
        for name, uploads in files.items():
            state[f"files.{name}"] = uploads
        state["clicks"] = opened
        for name, value in values.items():
            state[PREFIX + name] = value
        state["opened"] = dropped.file_id
    if state.get("opened") and dropped is not None:
        count = sum(len(state.get(f"files.{name}", [])) for name in ("micrographs", "preview"))
        st.success(f"{dropped.name} is open: {count} files. Go on at Segment, Find or Plan.")
