"""The page Plan: a budget becomes a path, its curves and files; a simulated stage follows it."""

from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image, ImageDraw

from sempre.app.find_page import beside_preview
from sempre.app.kept import default, folder
from sempre.app.messages import show_command, show_error, shown_errors

ARTEFACTS = {
    "scan_protocol.json": "Protocol (JSON)",
    "scan_map.ome.tif": "Map (OME-TIFF)",
    "quantification.csv": "Quantification (CSV)",
    "efficiency.csv": "Efficiency (CSV)",
}
# Okabe and Ito's colours; dashes tell the lines apart too.
STRATEGIES = {
    "planned": ("#d55e00", [1, 0]),
    "raster": ("#0072b2", [6, 3]),
    "serpentine": ("#56b4e9", [2, 2]),
    "random": ("#cc79a7", [8, 3, 2, 3]),
    "oracle": ("#009e73", [4, 2]),
}
SECONDS = 0.7  # between two looks at the simulation


def show() -> None:
    view, file = beside_preview(choose, "Drop a preview on the left, or on the page Find.")
    if file is None:
        return
    from sempre.app.scanning import act, command, look

    with view:
        with shown_errors():
            scan = look(file)
            plan, outcome = act(scan)
        show_simulation(scan, plan, outcome)
        show_numbers(plan, outcome)
        show_curves(outcome)
        show_downloads(outcome)
        show_command(command(scan))


def choose() -> None:
    """The budgets, the stage and the beam."""
    st.slider("Area of the preview (%)", 1.0, 100.0, step=1.0, key=default("scan.area_percent", 100.0))
    st.slider("Minutes of beam (0: as long as it takes)", 0.0, 120.0, step=0.5, key=default("scan.minutes", 0.0))
    st.selectbox(
        "A place is worth a field",
        ("otsu", "quantile", "none"),
        key=default("scan.threshold", "otsu"),
        format_func={
            "otsu": "above Otsu's threshold",
            "quantile": "if it is of the highest 5 %",
            "none": "while the budget lasts",
        }.__getitem__,
    )
    with st.expander("Stage and beam"):
        number = st.number_input
        number("nm per px (0: as the file says)", 0.0, key=default("scan.pixel_size_nm", 0.0), format="%g")
        number("Field of view (µm; 0: 64 px)", 0.0, key=default("scan.field_um", 0.0), format="%g")
        number("Side of a field's micrograph (px)", 16, 8192, key=default("scan.field_px", 512))
        number("Dwell (µs per px)", 0.01, key=default("scan.dwell_us", 5.0), format="%g")
        number("Speed (µm/s)", 0.01, key=default("scan.speed_um_s", 100.0), format="%g")
        number("Settling (s)", 0.0, key=default("scan.settle_s", 0.5), format="%g")
    with st.expander("Simulation"):
        st.slider("Times as fast", 1, 1000, key=default("simulation.speed", 5))
        st.number_input("Drift (nm/s)", 0.0, key=default("simulation.drift", 0.0), format="%g")
        st.slider("Moves that fail (%)", 0, 50, key=default("simulation.failures", 0))


def show_simulation(scan, plan, outcome) -> None:
    """The path over the preview, and the buttons of the simulation."""
    from sempre.app.scanning import chosen
    from sempre.app.simulation import Simulation
    from sempre.scan.stages import SimulatorOptions

    simulation = st.session_state.get("simulation")
    asked = repr((chosen(), outcome.protocol["preview"]["sha256"], scan.clicks is not None))
    with st.container(horizontal=True):
        if st.button("Simulate", type="primary", disabled=simulation is not None and simulation.alive):
            options = SimulatorOptions(
                drift_nm_s=st.session_state["keep.simulation.drift"],
                failures=st.session_state["keep.simulation.failures"] / 100,
                pace=1 / st.session_state["keep.simulation.speed"],
            )
            turn = st.session_state["turn"] = st.session_state.get("turn", 0) + 1
            st.session_state["simulation"] = Simulation(scan, options, folder() / "scans" / str(turn))
            st.session_state["simulated"] = asked
            st.rerun()
        if simulation is not None and simulation.alive:
            # Callbacks act before the page is made anew, so that an abort waits for no picture; and Abort keeps its
            # place beside a button whose word changes, so that no page in the making takes it from under a click.
            st.button("Abort", key="abort", on_click=simulation.abort)
            paused = simulation.paused
            act_on_it = simulation.go_on if paused else simulation.pause
            st.button("Go on" if paused else "Pause", key="pause", on_click=act_on_it)
    if simulation is None or (not simulation.alive and st.session_state["simulated"] != asked):
        st.image(planned_picture(scan, plan, outcome), width="stretch")
        scale = "" if scan.preview.pixel_size_nm else " The pixel size is unknown."
        st.caption(f"Squares are fields of view in the order of their visit; yellow is urgent.{scale}")
        return
    if simulation.alive:
        st.fragment(show_progress, run_every=SECONDS)(simulation, plan, outcome)
    else:
        show_progress(simulation, plan, outcome)


def planned_picture(scan, plan, outcome) -> np.ndarray:
    """The path over the preview, enlarged where that is small so that its numbers can be read."""
    from dataclasses import replace

    from sempre.report.figures import draw_scan

    factor = max(1, round(900 / max(scan.preview.pixels.shape)))
    fields = replace(plan.fields, centres=plan.fields.centres * factor, side=plan.fields.side * factor)
    pixels, priority = (
        of.repeat(factor, axis=0).repeat(factor, axis=1) for of in (scan.preview.pixels, outcome.priority_map)
    )
    nm = scan.preview.pixel_size_nm
    return draw_scan(pixels, priority, fields, nm / factor if nm else None)


def show_progress(simulation, plan, outcome) -> None:
    """The field of view where it is now, what has been seen, and the log."""
    if simulation.failed is not None:
        show_error(simulation.failed)
        return
    events, alive = simulation.events(), simulation.alive
    picture = planned_picture(simulation.scan, plan, outcome)
    factor = picture.shape[0] / simulation.scan.preview.pixels.shape[0]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image, "RGBA")
    half, width = plan.fields.side * factor / 2, max(2, round(picture.shape[1] / 250))

    def box(y: float, x: float) -> tuple[float, float, float, float]:
        return x * factor - half, y * factor - half, x * factor + half, y * factor + half

    for event in events:
        if event["event"] in ("visited", "skipped"):
            fill = (0, 158, 115, 90) if event["event"] == "visited" else (0, 0, 0, 130)
            draw.rectangle(box(event["y_px"], event["x_px"]), fill=fill)
    if alive:
        draw.rectangle(box(*simulation.place()), outline=(213, 94, 0), width=2 * width)
    overview, now = st.columns([2, 1])
    overview.image(image, width="stretch")
    visited = [event for event in events if event["event"] == "visited"]
    with now:
        if visited:
            show_field(simulation, len(visited))
        state = "paused" if simulation.paused and alive else "scanning" if alive else events[-1]["event"]
        seconds = next((event["seconds"] for event in reversed(events) if "seconds" in event), 0.0)
        st.metric(f"Fields, {state}", f"{len(visited)} of {len(plan.fields)}")
        st.caption(f"{seconds / 60:.1f} min of stage and beam")
    log = [event for event in events if event["event"] != "start"]
    if log:
        columns = ["event", "x_px", "y_px", "stage_x_um", "stage_y_um", "seconds", "error"]
        table = pd.DataFrame(log).reindex(columns=columns).iloc[::-1]
        st.dataframe(table.dropna(axis=1, how="all"), height=180, hide_index=True)
    if not alive and not st.session_state.get(f"ended.{simulation.folder}"):
        st.session_state[f"ended.{simulation.folder}"] = True
        st.rerun()  # the buttons are outside of what looks again by itself


def show_field(simulation, number: int) -> None:
    """The micrograph that was taken last."""
    from sempre.deploy.overlay import draw_scale_bar
    from sempre.images import read_micrograph

    micrograph = read_micrograph(Path(simulation.folder) / "fields" / f"field_{number:04}.tif")
    picture = np.repeat(micrograph.pixels[..., None], 3, axis=2)
    if micrograph.pixel_size_nm:
        picture = draw_scale_bar(picture, micrograph.pixel_size_nm)
    st.image(picture, width="stretch", caption=f"field {number}")


def show_numbers(plan, outcome) -> None:
    """What the plan takes and gives."""
    planned, minutes = outcome.curves["planned"], outcome.protocol["seconds"] / 60
    for column, (label, text) in zip(
        st.columns(4),
        {
            "Fields": f"{len(plan.fields)}",
            "Minutes": f"{minutes:.1f}",
            "Area": f"{planned.area[-1]:.1%}",
            "Of the priority": f"{planned.coverage[-1]:.0%}",
        }.items(),
        strict=True,
    ):
        column.metric(label, text)


def show_curves(outcome) -> None:
    """Coverage beside what one would do without a plan."""
    by = st.segmented_control("Coverage against", ("area", "time"), default="area", key="curves") or "area"
    rows = []
    for name, curve in outcome.curves.items():
        spent = 100 * curve.area if by == "area" else curve.seconds / 60
        rows.append({"strategy": name, "spent": 0.0, "coverage": 0.0})
        rows += [{"strategy": name, "spent": x, "coverage": y} for x, y in zip(spent, curve.coverage, strict=True)]
    names = list(STRATEGIES)
    colours, dashes = (alt.Scale(domain=names, range=[STRATEGIES[name][of] for name in names]) for of in (0, 1))
    chart = (
        alt.Chart(pd.DataFrame(rows), height=280)
        .mark_line(strokeWidth=2.5, interpolate="step-after")
        .encode(
            x=alt.X("spent:Q", title="area scanned (%)" if by == "area" else "time (min)"),
            y=alt.Y("coverage:Q", title="share of the priority seen", axis=alt.Axis(format="%")),
            color=alt.Color("strategy:N", scale=colours, title=None),
            strokeDash=alt.StrokeDash("strategy:N", scale=dashes, title=None),
            tooltip=["strategy:N", alt.Tooltip("spent:Q", format=".3~g"), alt.Tooltip("coverage:Q", format=".1%")],
        )
    )
    st.altair_chart(chart, alt="efficiency curves")


def show_downloads(outcome) -> None:
    """The command line's files, made when they are asked for."""
    from sempre.scan.outcome import write_outcome

    with st.container(horizontal=True):
        for name, label in ARTEFACTS.items():

            def content(name=name) -> bytes:
                place = folder() / "plan"
                place.mkdir(exist_ok=True)
                write_outcome(place, outcome)
                return (place / name).read_bytes()

            st.download_button(label, content, name, on_click="ignore", key=f"get.{name}")
