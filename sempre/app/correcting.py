"""Correct by hand what was found: the picture that takes clicks, the edits, and the particles that come of them.

The picture is a component of our own (`correcting.js`) by Streamlit's interface for components that need no build: its
script is sent over the page's own connection, and nothing else is served.
"""

import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import streamlit as st
from streamlit.components import v2

from sempre.app.kept import Upload
from sempre.app.messages import show_error
from sempre.app.pictures import data_url, reduced
from sempre.app.segmenting import Found, Settings
from sempre.deploy.overlay import draw_overlay
from sempre.deploy.segmenter import Segmentation
from sempre.errors import InputError
from sempre.images import corrections, field_rows
from sempre.images.corrections import Corrections
from sempre.segmentation.particles import measure_particles

HTML = """
<div class="correcting">
  <div class="tools">
    <label class="size">Width <input type="range" min="1" max="200" value="15"> px</label>
    <button type="button" class="undo">Undo</button>
  </div>
  <canvas tabindex="0" role="img"></canvas>
  <p class="hint"></p>
</div>
"""
DRAWN_SCORE = 1.0  # of a particle that a person has drawn
KINDS = {"delete": 1, "merge": 2, "split": 2, "polygon": 3, "brush": 1, "undo": 0}  # and the fewest points of each
MOST_POINTS = 100_000  # of one edit


@dataclass
class Corrected:
    """A micrograph's corrections: what was found above `threshold`, and the edits since.

    `applied` is the number of the last edit that the picture has sent. `scores` are by the ids of the label image.
    """

    found: Found
    threshold: float
    corrections: Corrections
    scores: dict[int, float]
    scores_before: list[dict[int, float]] = field(default_factory=list)
    applied: int = 0
    problem: InputError | None = None
    picture: str = ""
    # Streamlit begins the next run of the page in a new thread before the one under way has come to its end.
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def edits(self) -> int:
        return len(self.corrections.before)

    def edit(self, kind: str, points: list[tuple[float, float]], width: float) -> None:
        """Do one edit: `kind` with points (y, x in px) and, of the brush, its width in px.

        Raises:
            InputError: for an edit that cannot be done here.
        """
        if kind not in KINDS or not KINDS[kind] <= len(points) <= MOST_POINTS:
            raise InputError(f"'{kind}' with {len(points)} points is no edit: give one of {', '.join(KINDS)}")
        with self.lock:
            self._edit(kind, points, width)

    def _edit(self, kind: str, points: list[tuple[float, float]], width: float) -> None:
        old = self.corrections.labels
        if kind == "undo":
            self.corrections.undo()
            self.scores = self.scores_before.pop()
        else:
            if kind == "delete":
                new = corrections.delete(old, points[0])
            elif kind == "merge":
                new = corrections.merge(old, points[0], points[1])
            elif kind == "split":
                new = corrections.split(old, points)
            elif kind == "polygon":
                new = corrections.add_polygon(old, points)
            else:
                new = corrections.brush(old, points, width)
            self.scores_before.append(self.scores)
            self.scores = _scores_after(old, new, self.scores)
            self.corrections.apply(new)
            del self.scores_before[: -self.edits]
        self._measure()

    def _measure(self) -> None:
        """Renew the particles. Their ids count from 1 in the order before; what was added comes last."""
        found = self.found
        labels, old = corrections.renumbered(self.corrections.labels)
        scores = np.array([self.scores[number] for number in old.tolist()], np.float32)
        size = found.segmentation.pixel_size
        particles = measure_particles(labels, scores, size, field_rows(found.pixels), found.pixels) if len(old) else []
        self.found = replace(found, segmentation=replace(found.segmentation, labels=labels, particles=particles))
        self.picture = ""


def _scores_after(old: np.ndarray, new: np.ndarray, scores: dict[int, float]) -> dict[int, float]:
    """The scores by id after an edit: a piece that was split off has the score of the whole, a drawn one its own."""
    added = np.setdiff1d(new[new != old], old)
    after = dict(scores)
    for number in added.tolist():
        before = int(old[new == number].max())
        after[number] = scores[before] if before else DRAWN_SCORE
    return after


def begin(found: Found, threshold: float) -> Corrected:
    """Corrections of what was found above `threshold`, without an edit yet."""
    segmentation: Segmentation = found.segmentation
    scores = {particle.id: particle.score for particle in segmentation.particles}
    return Corrected(found, threshold, Corrections(segmentation.labels), scores)


def corrected_before(file: Upload, settings: Settings) -> Corrected | None:
    """The corrections of a micrograph that has been edited; None where nothing was."""
    kept = st.session_state.setdefault("corrected", {}).get((file.sha256, settings))
    return kept if kept is not None and kept.edits else None


def corrected_of(file: Upload, settings: Settings, found: Found, threshold: float) -> Corrected:
    """The corrections of a micrograph; they begin with what was found above `threshold`."""
    kept = st.session_state.setdefault("corrected", {})
    key = file.sha256, settings
    if key not in kept or (not kept[key].edits and kept[key].threshold != threshold):
        applied = kept[key].applied if key in kept else 0
        kept[key] = begin(found, threshold)
        kept[key].applied = applied
    return kept[key]


def start_over(file: Upload, settings: Settings) -> None:
    """Forget the corrections of a micrograph."""
    kept = st.session_state["corrected"]
    old = kept[file.sha256, settings]
    with old.lock:
        while old.edits:
            old.corrections.undo()
            old.scores = old.scores_before.pop()
        old.problem = None
        old._measure()


@lru_cache(1)
def _component() -> Any:
    folder = resources.files("sempre.app")
    script, style = ((folder / f"correcting.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    return v2.component("sempre_correcting", html=HTML, css=style, js=script)


def show_correcting(file: Upload, corrected: Corrected) -> None:
    """The picture with its tools; what is drawn on it is applied before the rest of the page is computed."""
    key = f"correct.{file.sha256[:16]}"

    def apply() -> None:
        with corrected.lock:
            corrected.problem = None
            for edit in st.session_state[key].get("edits") or []:
                number = int(edit["number"])
                if number <= corrected.applied:
                    continue
                corrected.applied = number
                try:
                    points = [(float(y), float(x)) for y, x in edit["points"]]
                    corrected.edit(str(edit["kind"]), points, float(edit["width"]))
                except InputError as error:
                    corrected.problem = error

    with corrected.lock:
        if not corrected.picture:
            size = corrected.found.pixel_size
            labels = corrected.found.segmentation.labels
            picture, _ = reduced(draw_overlay(corrected.found.pixels, labels, size.x if size else None))
            corrected.picture = data_url(picture)
        height, width = corrected.found.pixels.shape
        data = {"picture": corrected.picture, "width": width, "height": height, "applied": corrected.applied}
        data |= {"edits": corrected.edits, "title": f"particles of {file.path.name}, to correct"}
    _component()(key=key, data=data, on_edits_change=apply)
    if corrected.problem is not None:
        show_error(corrected.problem)
    _by_keyboard(file, corrected)


def _by_keyboard(file: Upload, corrected: Corrected) -> None:
    """The same edits by typed points."""
    with st.expander("Corrections by keyboard"), st.form(f"typed.{file.sha256[:16]}", border=False):
        kind = str(st.selectbox("Edit", list(KINDS)))
        typed = st.text_input("Points", placeholder="x,y x,y …", help="in px of the micrograph, with blanks between")
        width = st.number_input("Width of the brush (px)", 1.0, 1000.0, 15.0)
        if st.form_submit_button("Apply"):
            try:
                corrected.problem = None
                corrected.edit(kind, parse_points(typed), width)
            except InputError as error:
                corrected.problem = error
            st.rerun()


def parse_points(typed: str) -> list[tuple[float, float]]:
    """Points (y, x) of a text as in "120,40 130,52" (x,y). Raises: InputError."""
    points = []
    for part in typed.split():
        try:
            x, y = (float(value) for value in part.split(","))
        except ValueError:
            raise InputError(f"'{part}' is no point: write x,y in px, as in 120,40") from None
        if not np.isfinite([x, y]).all():
            raise InputError(f"'{part}' is no point: write x,y in px, as in 120,40")
        points.append((y, x))
    return points
