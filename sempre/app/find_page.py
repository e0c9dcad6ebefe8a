"""The page Find: where a preview is strange, and where it is like what is clicked or written."""

from collections.abc import Callable

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sempre.app.kept import Upload, default, uploader
from sempre.app.messages import need_training, show_command, shown_errors
from sempre.app.pictures import across, cells_layer, down, layered, picture_layer, reduced

SIDES = {"positive": "sought", "negative": "not sought"}
COLOURS = {"positive": "#e69f00", "negative": "#56b4e9"}  # Okabe and Ito's orange and sky blue
SHAPES = {"positive": "cross", "negative": "triangle-down"}
STRANGEST = 8
AROUND = 48  # px on each side of a patch that are shown


def show() -> None:
    view, file = beside_preview(choose, "Drop a preview on the left: a micrograph of low magnification.")
    if file is None:
        return
    from sempre.app.scanning import clicks_json, command, look

    with view:
        with shown_errors():
            scan = look(file)
        show_map(scan)
        show_strangest(scan)
        type_click(scan)
        if scan.clicks is not None:
            st.download_button("Clicks (JSON)", clicks_json(file), "clicks.json", on_click="ignore")
        show_command(command(scan))


def beside_preview(choose: Callable[[], None], hint: str) -> tuple[DeltaGenerator, Upload | None]:
    """Ask for the preview, which Find and Plan share, and below it for what `choose` does; the place beside them for
    what comes of it, with a `hint` in it as long as there is no preview, and the preview."""
    need_training("Find and Plan")
    options, view = st.columns([1, 3], gap="medium")
    with options:
        files = uploader("Preview", "preview", help="a quick micrograph of low magnification; it stays here")
        choose()
    if not files:
        view.info(hint, icon=":material/upload_file:")
    return view, files[0] if files else None


def choose() -> None:
    """What is sought, and how."""
    st.radio("A click marks what is", SIDES, format_func=SIDES.get, key=default("side", "positive"), horizontal=True)
    st.text_input("Sought in words", key=default("scan.text", ""), placeholder="cracks, long thin lines")
    st.text_input("Not sought in words", key=default("scan.without", ""), placeholder="round particles")
    with st.expander("More"):
        st.text_input(
            "CLIP's folder",
            key=default("scan.clip", ""),
            help="config.json, model.safetensors, tokenizer.json, for words",
        )
        st.number_input("nm per px (0: as the file says)", 0.0, key=default("scan.pixel_size_nm", 0.0), format="%g")
        st.selectbox(
            "Strangeness by", ("neighbours", "isolation_forest", "bulk"), key=default("scan.anomaly", "neighbours")
        )
        for name, label in (("anomaly", "strangeness"), ("clicks", "clicks"), ("text", "words")):
            st.slider(f"Weight of {label}", 0.0, 2.0, step=0.1, key=default(f"scan.{name}_weight", 1.0))
        st.text_input("Backbone", key=default("scan.backbone", "particles"), help="a backbone/ folder, or a name")


def show_map(scan) -> None:
    """The map over the preview; what is clicked becomes a click, or takes one back."""
    from sempre.report.figures import draw_scan
    from sempre.scan.fields import Fields

    shape = scan.preview.pixels.shape
    none = Fields(np.zeros((0, 2)), np.zeros(0), 1.0)
    veil = draw_scan(scan.preview.pixels, scan.patches.to_map(scan.decision.priority), none, scan.preview.pixel_size_nm)
    layers = [picture_layer(reduced(veil)[0], shape, "priority map")]
    marks = clicks_table(scan.file)
    layers.append(cells_layer(shape, scan.options.stride, "cell"))
    if len(marks):
        layers.append(clicks_layer(marks, shape))
    turn = st.session_state.setdefault("turn", 0)
    # A chart of its own for each click, or the cell that is selected could not be clicked again.
    event = st.altair_chart(
        layered(*layers), on_select="rerun", selection_mode="cell", key=f"map.{turn}", alt="priority map"
    )
    weights = ", ".join(
        {"anomaly": "strangeness", "clicks": "clicks", "text": "words"}[name] for name in scan.decision.parts
    )
    scale = "" if scan.preview.pixel_size_nm else " The pixel size is unknown, so there is no scale bar."
    st.caption(f"Yellow is urgent, blue is not: by {weights}. Click to teach, click again to take back.{scale}")
    if event.selection.cell:
        (cell, *_) = event.selection.cell
        add_click(
            scan.file,
            str(st.session_state["keep.side"]),
            float(cell["row"]),
            float(cell["column"]),
            scan.options.stride,
        )


def add_click(file: Upload, side: str, y: float, x: float, near: float = 0.0) -> None:
    """Add a click, or take back those that are `near` px from it; the page is shown anew."""
    from sempre.app.scanning import clicks_of

    clicks = clicks_of(file)
    kept = {
        name: [point for point in points if max(abs(point[0] - y), abs(point[1] - x)) > near / 2]
        for name, points in clicks.items()
    }
    if kept == clicks:
        kept[side].append([y, x])
    clicks.update(kept)
    st.session_state["turn"] = st.session_state.get("turn", 0) + 1
    st.rerun()


def clicks_table(file: Upload) -> pd.DataFrame:
    from sempre.app.scanning import clicks_of

    rows = [{"side": SIDES[side], "y": y, "x": x} for side, points in clicks_of(file).items() for y, x in points]
    return pd.DataFrame(rows, columns=["side", "y", "x"])


def clicks_layer(marks: pd.DataFrame, shape: tuple[int, int]) -> alt.Chart:
    """The clicks, which colour and shape tell apart."""
    names = list(SIDES.values())
    colours, shapes = (alt.Scale(domain=names, range=[of[side] for side in SIDES]) for of in (COLOURS, SHAPES))
    return (
        alt.Chart(marks)
        .mark_point(filled=True, size=160, stroke="black", strokeWidth=1.2, opacity=1)
        .encode(
            x=across(shape),
            y=down(shape),
            fill=alt.Fill("side:N", scale=colours, legend=None),
            shape=alt.Shape("side:N", scale=shapes, legend=None),
            tooltip=["side:N", "x:Q", "y:Q"],
        )
    )


def show_strangest(scan) -> None:
    """The most urgent patches, each with its buttons."""
    from sempre.app.scanning import strangest

    places = strangest(scan, STRANGEST)
    if not len(places):
        return
    st.subheader("Most urgent" if len(scan.decision.parts) > 1 else "Strangest")
    padded = np.pad(scan.preview.pixels, AROUND, "symmetric")
    columns = st.columns(4)
    for number, (y, x) in enumerate(places):
        with columns[number % 4]:
            row, column = int(y), int(x)
            tile = padded[row : row + 2 * AROUND, column : column + 2 * AROUND]
            st.image(framed(tile, scan.preview.pixel_size_nm), width="stretch")
            with st.container(horizontal=True, gap="small"):
                for side, sign in (("positive", "Sought"), ("negative", "Not")):
                    if st.button(sign, key=f"{side}.{number}", help=f"x {column}, y {row} px is {SIDES[side]}"):
                        add_click(scan.file, side, float(y), float(x), 1.0)


def framed(tile: np.ndarray, pixel_size_nm: float | None) -> np.ndarray:
    """A patch twice as large, with its scale bar."""
    from sempre.deploy.overlay import draw_scale_bar

    picture = np.repeat(tile.repeat(2, axis=0).repeat(2, axis=1)[..., None], 3, axis=2)
    return draw_scale_bar(picture, pixel_size_nm / 2) if pixel_size_nm else picture


def type_click(scan) -> None:
    """Clicks without a mouse."""
    height, width = scan.preview.pixels.shape
    with st.expander("Clicks by keyboard"), st.container(horizontal=True, vertical_alignment="bottom"):
        x = st.number_input("x (px)", 0.0, float(width) - 0.5, float(width // 2), step=1.0, width=140)
        y = st.number_input("y (px)", 0.0, float(height) - 0.5, float(height // 2), step=1.0, width=140)
        for side, label in SIDES.items():
            if st.button(f"Add as {label}"):
                add_click(scan.file, side, y, x)
        if st.button("Remove all clicks"):
            st.session_state["clicks"].pop(scan.file.sha256, None)
            st.session_state["turn"] += 1
            st.rerun()
