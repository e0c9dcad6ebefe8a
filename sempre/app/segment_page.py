"""The page Segment: micrographs in, outlined and measured particles out."""

import shlex
from pathlib import Path
from typing import cast

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sempre.app.correcting import Corrected, corrected_before, corrected_of, show_correcting, start_over
from sempre.app.improving import improved_bundles, show_saving
from sempre.app.kept import Upload, default, folder, uploader, value
from sempre.app.messages import show_command, show_error, shown_errors
from sempre.app.pictures import across, down, layered, picture_layer, reduced
from sempre.app.segmenting import Found, Settings, above, open_model, pages_left_out, read, segment
from sempre.deploy.arguments import parse_pixel_size
from sempre.deploy.formats import SUFFIXES, result_paths
from sempre.deploy.micrograph_results import write_results
from sempre.deploy.overlay import draw_overlay, draw_scale_bar
from sempre.deploy.released import released_names
from sempre.deploy.size_plot import logarithmic_bins
from sempre.images import PixelSize, percentile_normalise_to_uint8
from sempre.images.label_names import labels_beside
from sempre.segmentation.particles import particle_row

OWN = "a bundle's folder…"
LABELS = {
    "tif": "Labels (TIFF)",
    "csv": "Table (CSV)",
    "overlay": "Picture (PNG)",
    "rois": "ImageJ ROIs (ZIP)",
}


def show() -> None:
    options, view = st.columns([1, 3], gap="medium")
    with options:
        files = uploader(
            "Micrographs",
            "micrographs",
            several=True,
            help="TIFF, PNG, JPEG, HDF5, DM3/4, EMD, MRC, Imaris; they stay here",
        )
        labels = labels_beside(file.path for file in files)
        if labels:
            files = [file for file in files if file.path not in labels]
            st.caption(
                f"{len(labels)} files are labels by their names and are left out, {next(iter(labels)).name} first."
            )
        with shown_errors():
            settings = choose()
        go = st.button("Segment", type="primary", disabled=not files, width="stretch")
    with view:
        if not files:
            st.info("Drop micrographs on the left: they stay on this machine.", icon=":material/upload_file:")
            return
        names = [file.path.name for file in files]
        index = 0
        if len(files) > 1:
            index = cast(int, st.selectbox("Micrograph", range(len(files)), format_func=names.__getitem__))
        with shown_errors():
            model = open_model(settings.model)
        if go:
            segment_all(files, settings)
        show_one(files[index], settings, model)


def choose() -> Settings:
    """The options, as the person sets them."""
    names = [*released_names(), *improved_bundles(), OWN]
    key = default("model", names[0])
    if st.session_state[key] not in names:  # of a labelled set that is no longer the chosen one
        names.insert(-1, st.session_state[key])
    model = cast(str, st.selectbox("Model", names, key=key, format_func=model_name))
    if model == OWN:
        model = st.text_input("Bundle", key=default("bundle", ""), placeholder="folder with model.onnx and model.json")
        if not model.strip():
            st.caption("Give the folder that the export wrote.")
            st.stop()
    size = st.text_input(
        "Pixel size",
        key=default("pixel_size", ""),
        placeholder="as the file or its scale bar says",
        help="as in 2.5nm, or 2.5x5nm",
    )
    with st.expander("More"):
        crop = st.checkbox("Leave out the information bar", key=default("crop", False))
        scale = st.number_input(
            "Seen at … times its size",
            0.0,
            16.0,
            step=0.25,
            key=default("scale", 0.0),
            help="0: the model's own choice. Below 1 is quicker for large micrographs.",
        )
    return Settings(model, parse_pixel_size(size) if size.strip() else None, crop, scale or None)


def model_name(model: str) -> str:
    """How the list shows a model: of a bundle that was made of a labelled set the name of its run."""
    path = Path(model)
    return f"{path.parent.name} ({path.parents[2].name})" if path.name == "bundle" and path.is_absolute() else model


def segment_all(files: list[Upload], settings: Settings) -> None:
    """Segment what has not been segmented so; one that fails stops no other."""
    for file in files:
        try:
            with st.spinner(f"Segmenting {file.path.name}", show_time=True):
                bar = st.progress(0.0)

                def advance(done: int, of: int, bar: DeltaGenerator = bar) -> None:
                    bar.progress(min(done / of, 1.0))

                segment(file, settings, advance)
                bar.empty()
        except (ValueError, OSError, MemoryError) as error:
            show_error(error)


def show_one(file: Upload, settings: Settings, model) -> None:
    """A micrograph, with its particles if it has been segmented so."""
    found = st.session_state.get("found", {}).get((file.sha256, settings))
    if found is None:
        with shown_errors():
            micrograph = read(file)
        grey, factor = reduced(percentile_normalise_to_uint8(micrograph.pixels))
        picture = np.repeat(grey[..., None], 3, axis=2)
        size = settings.pixel_size_nm or micrograph.pixel_size
        picture = draw_scale_bar(picture, size.x * factor) if size else picture
        chart = layered(picture_layer(picture, micrograph.pixels.shape, file.path.name))
        st.altair_chart(chart, alt=f"micrograph {file.path.name}")
        if left_out := pages_left_out(micrograph):
            st.warning(left_out)
        height, width = micrograph.pixels.shape
        st.caption(f"{file.path.name}, {width}×{height} px, {size_of(size, micrograph.pixel_size_source or 'typed')}")
        return
    if found.warning:
        st.warning(found.warning)
    least = 0.0 if model.bundle.kind == "dense" else model.bundle.score_threshold
    name = f"threshold.{model.bundle.kind}"
    edited = corrected_before(file, settings)
    threshold = st.slider(
        "Particles score more than", 0.0, 1.0, key=default(name, least), step=0.01, disabled=edited is not None
    )
    correcting = st.toggle("Correct by hand", key=default("correct", False))
    with shown_errors():
        found = above(file, settings, found, threshold) if edited is None else found
    corrected = corrected_of(file, settings, found, threshold) if correcting or edited else None
    if corrected is not None:
        show_corrections(file, settings, corrected, correcting)
    show_found(file, settings, corrected.found if corrected else found, threshold, least, corrected, correcting)


def show_corrections(file: Upload, settings: Settings, corrected: Corrected, correcting: bool) -> None:
    """The picture to correct on, and how many edits there are."""
    if correcting:
        show_correcting(file, corrected)
    if corrected.edits:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"Corrected by hand: {corrected.edits} edits, from the particles above {corrected.threshold:g}.")
            st.button("Start over", on_click=start_over, args=(file, settings))


def show_found(
    file: Upload,
    settings: Settings,
    found: Found,
    threshold: float,
    least: float,
    corrected: Corrected | None = None,
    correcting: bool = False,
) -> None:
    """Picture, numbers and downloads of what was found, or of what the corrections made of it."""
    nm, unit = (found.pixel_size.mean, "nm") if found.pixel_size else (1.0, "px")
    particles = found.segmentation.particles
    whole = [particle.equivalent_diameter for particle in particles if not particle.touches_border]
    diameters = np.array(whole) * nm
    caption = f"{file.path.name}, {size_of(found.pixel_size, found.size_source)}"
    if not correcting:
        st.altair_chart(overlay_chart(found, file.path.name), alt=f"particles of {file.path.name}")
        caption += ". Shift and wheel zoom."
    st.caption(caption)
    one, two, three = st.columns(3)
    one.metric("Particles", len(particles))
    two.metric("Median diameter", f"{np.median(diameters):.4g} {unit}" if len(diameters) else "–")
    three.metric("Covered", f"{np.count_nonzero(found.segmentation.labels) / found.field:.1%}")
    if len(diameters):
        st.altair_chart(size_chart(diameters, unit), alt="size distribution")
    if len(whole) < len(particles):
        cut = len(particles) - len(whole)
        st.caption(f"A border or an information bar cuts {cut}: the median and the sizes leave them out.")
    show_downloads(file, found)
    if correcting:
        show_saving(file, found)
    if corrected is not None and corrected.edits:
        st.caption("No command makes the same: these particles were corrected by hand.")
        return
    given = [f"--score-threshold {threshold:g}"] if threshold != least else []
    given += [f"--pixel-size {spelt(settings.pixel_size_nm)}"] if settings.pixel_size_nm else []
    given += ["--crop-information-bar"] if settings.crop else []
    given += [f"--scale {settings.scale:g}"] if settings.scale else []
    command = ["sempre segment", shlex.quote(file.path.name), "--model", shlex.quote(settings.model), *given]
    show_command(" ".join([*command, "--format tif,csv,overlay,rois --out results"]))


def size_of(size: PixelSize | None, source: str) -> str:
    if size is None:
        return "pixel size unknown (no scale bar): type it on the left for sizes in nm"
    high = "" if size.is_square else f" wide and {size.y:.4g} nm high"
    return f"1 px is {size.x:.4g} nm{high} ({'typed' if source == 'option' else source})"


def spelt(size: PixelSize) -> str:
    """A pixel size as the command line takes it."""
    return f"{size.x:g}nm" if size.is_square else f"{size.x:g}x{size.y:g}nm"


def overlay_chart(found: Found, title: str) -> alt.LayerChart:
    """The overlay of the command line, and a circle with its numbers for the particle under the pointer."""
    shape, size = found.segmentation.labels.shape, found.pixel_size
    picture, _ = reduced(draw_overlay(found.pixels, found.segmentation.labels, size.x if size else None))
    table = pd.DataFrame([particle_row(particle, size) for particle in found.segmentation.particles])
    ground = picture_layer(picture, shape, title)
    if table.empty:
        return layered(ground)
    table = table.apply(pd.to_numeric)
    unit = "nm" if size else "px"
    radius = table["equivalent_diameter_px"] / 2
    corners = {"left": table["x_px"] - radius, "top": table["y_px"] - radius}
    corners |= {"right": table["x_px"] + radius, "bottom": table["y_px"] + radius}
    # Large ones first, so that a small one on a large one is the one that is hovered over.
    table = table.assign(**corners).sort_values("equivalent_diameter_px", ascending=False)
    hovered = alt.selection_point(on="pointerover", clear="pointerout", empty=False, name="hovered")
    tips = {"id": "particle", "score": "score", f"equivalent_diameter_{unit}": f"diameter ({unit})"}
    tips |= {f"feret_max_{unit}": f"longest ({unit})", f"feret_min_{unit}": f"shortest ({unit})"}
    tips |= {"circularity": "circularity"}
    marks = (
        alt.Chart(table[[*tips, *corners]])
        .mark_rect(cornerRadius=9999, fill="white", stroke="white", strokeWidth=2)
        .encode(
            x=across(shape, "left"),
            x2="right:Q",
            y=down(shape, "top"),
            y2="bottom:Q",
            fillOpacity=alt.when(hovered).then(alt.value(0.25)).otherwise(alt.value(0.0)),
            strokeOpacity=alt.when(hovered).then(alt.value(1.0)).otherwise(alt.value(0.0)),
            tooltip=[alt.Tooltip(f"{field}:Q", title=text, format=".4~g") for field, text in tips.items()],
        )
        .add_params(hovered)
    )
    return layered(ground, marks)


def size_chart(diameters: np.ndarray, unit: str) -> alt.Chart:
    """The size distribution in the bins of the command line's plot."""
    edges = logarithmic_bins(diameters)
    counts, _ = np.histogram(diameters, edges)
    table = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "particles": counts, "zero": 0})
    axis = alt.Axis(title=f"equivalent diameter ({unit})", format="~g", grid=False, tickCount=8)
    return (
        alt.Chart(table, height=200)
        .mark_rect(color="#4477aa", stroke="white", strokeWidth=0.4)
        .encode(
            x=alt.X("from:Q", scale=alt.Scale(type="log", nice=False), axis=axis),
            x2="to:Q",
            y=alt.Y("zero:Q", title="particles"),
            y2="particles:Q",
            tooltip=[alt.Tooltip(name, format=".4~g") for name in ("from:Q", "to:Q", "particles:Q")],
        )
    )


def show_downloads(file: Upload, found: Found) -> None:
    """The command line's files, made when they are asked for."""
    base = folder() / "results" / file.path.stem
    with st.container(horizontal=True):
        for name, label in LABELS.items():

            def content(name=name) -> bytes:
                write_results(base, (name,), found.pixels, found.segmentation)
                (path,) = result_paths(base, (name,))
                return path.read_bytes()

            st.download_button(label, content, file.path.stem + SUFFIXES[name], on_click="ignore", key=f"get.{name}")
    if value("crop"):
        st.caption("Labels and ROIs are in the whole micrograph's frame.")
