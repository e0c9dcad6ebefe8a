"""The page Runs: the reports and curves of the runs in the folder that the cockpit was started in."""

import json
from pathlib import Path
from typing import cast

import altair as alt
import pandas as pd
import streamlit as st

from sempre.app.messages import show_command

ROOT = Path("runs")
MOST_BYTES = 64 << 20  # of a report or a log that is shown
DEPTH = 3  # folders below runs/


def show() -> None:
    runs = found(ROOT)
    if not runs:
        st.info(f"No finished or running run in {ROOT.resolve()}.", icon=":material/monitoring:")
        show_command("make demo")
        return
    # Streamlit's types take any list for an empty one, of which nothing can be chosen.
    run = cast(Path, st.selectbox("Run", runs, format_func=lambda path: str(path.relative_to(ROOT))))
    log, reports = run / "log.jsonl", sorted(run.glob("*.html"))
    figures = sorted([*run.glob("*.png"), *run.glob("figures/*.png")])
    for path in (log, *reports):
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            st.warning(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB, too much to show: open it yourself.")
            return
    if log.is_file():
        show_curves(read_lines(log))
    for figure in figures:
        st.image(str(figure), caption=figure.name)
    for report in reports:
        st.subheader(report.name)
        st.download_button("Download", report.read_bytes(), report.name, on_click="ignore", key=f"get.{report}")
        st.iframe(report, height=900)
    if (run / "config.yaml").is_file():
        with st.expander("Options"):
            st.code((run / "config.yaml").read_text(encoding="utf-8", errors="replace"), language="yaml")


def found(root: Path) -> list[Path]:
    """The folders that hold a report or a log, the newest first."""
    marks = [
        path
        for depth in range(1, DEPTH + 1)
        for name in ("*.html", "log.jsonl")
        for path in root.glob("/".join(["*"] * depth) + f"/{name}")
    ]
    newest = {}
    for path in marks:
        newest[path.parent] = max(newest.get(path.parent, 0.0), path.stat().st_mtime)
    return sorted(newest, key=newest.__getitem__, reverse=True)


def read_lines(log: Path) -> list[dict]:
    """The lines of a log that are whole."""
    lines = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut short by a kill, or being written
        if isinstance(entry, dict):
            lines.append(entry)
    return lines


def show_curves(lines: list[dict]) -> None:
    """A number of the log over the steps, training and validation told apart by colour and dash."""
    lines = [line for line in lines if "step" in line and "kind" in line]
    numbers = {name for line in lines for name, number in line.items() if isinstance(number, float)} - {"step", "time"}
    if not numbers:
        return
    names = sorted(numbers, key=lambda name: (name != "loss", name))
    name = st.selectbox("Curve", names)
    table = pd.DataFrame(
        [{"step": line["step"], "kind": line["kind"], name: line[name]} for line in lines if name in line]
    )
    colours = alt.Scale(range=["#0072b2", "#d55e00", "#009e73", "#cc79a7"])
    chart = (
        alt.Chart(table, height=320)
        .mark_line(point=len(table) < 60)
        .encode(
            x="step:Q",
            y=alt.Y(f"{name}:Q", scale=alt.Scale(zero=False)),
            color=alt.Color("kind:N", scale=colours, title=None),
            strokeDash=alt.StrokeDash("kind:N", title=None),
            tooltip=["kind:N", "step:Q", alt.Tooltip(f"{name}:Q", format=".4~g")],
        )
    )
    st.altair_chart(chart, alt=f"{name} over steps")
