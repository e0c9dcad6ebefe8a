"""See, think and act on a dropped preview, as `tools/scan.py` does; needs PyTorch. What was computed is kept."""

import json
import shlex
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import streamlit as st

from sempre.app.kept import Upload, value
from sempre.errors import InputError
from sempre.frozen.encoder import Encoder, open_encoder
from sempre.frozen.prototypes import Clicks
from sempre.images import read_micrograph
from sempre.scan.explore import ExploreOptions
from sempre.scan.fields import cover, level
from sempre.scan.outcome import Outcome, outcome_of
from sempre.scan.patches import Patches, see
from sempre.scan.plan import Plan, make_plan
from sempre.scan.preview import Calibration, Preview, enlargement, read_preview
from sempre.scan.priorities import Decision, decide

EMBEDDINGS = "runs/embeddings"  # as the command line keeps them
BACKBONE, LAYER = "particles", 0  # of tools/scan.py
NUMBERS = ("anomaly_weight", "clicks_weight", "text_weight", "area_percent", "minutes", "field_um", "dwell_us")
NUMBERS += ("speed_um_s", "settle_s")
CHOICES = ("anomaly", "threshold", "clip")


@dataclass(frozen=True)
class Scan:
    """A preview that has been seen, and what is thought of it."""

    file: Upload
    preview: Preview
    encoder: Encoder
    patches: Patches
    options: ExploreOptions
    clicks: Clicks | None
    decision: Decision


def chosen() -> dict[str, Any]:
    """The options of `tools/scan.py` that the pages set to other values than their defaults."""
    usual = ExploreOptions()
    given = {name: value(f"scan.{name}", getattr(usual, name)) for name in (*NUMBERS, *CHOICES)}
    given["field_px"] = int(value("scan.field_px", usual.field_px))
    given["stride"] = int(value("scan.stride", usual.stride))
    for name in ("text", "without"):
        given[name] = [part.strip() for part in str(value(f"scan.{name}", "")).split(",") if part.strip()]
    return {name: setting for name, setting in given.items() if setting != getattr(usual, name)}


def clicks_of(file: Upload) -> dict[str, list[list[float]]]:
    """The clicks on a preview, as their JSON file holds them."""
    all_clicks = st.session_state.setdefault("clicks", {})
    return all_clicks.setdefault(file.sha256, {"positive": [], "negative": []})


def clicks_json(file: Upload) -> str:
    """The file of clicks that `tools/scan.py` reads."""
    # Clicks are on the preview, whose pixels are square; the file counts the pixels of the micrograph.
    typed = float(value("scan.pixel_size_nm", 0.0))
    times = np.array(enlargement(None if typed else read_micrograph(file.path).pixel_size))
    clicks = clicks_of(file)
    if (times > 1).any():
        clicks = {side: (np.reshape(points, (-1, 2)) / times).tolist() for side, points in clicks.items()}
    return json.dumps({file.path.name: clicks})


@st.cache_resource(max_entries=2, show_spinner="Opening the backbone")
def _encoder(backbone: str) -> Encoder:
    return open_encoder(backbone, layer=LAYER)


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs={Upload: lambda file: str(file.path)})
def _seen(file: Upload, pixel_size_nm: float, backbone: str, stride: int) -> tuple[Preview, Patches]:
    preview = read_preview(file.path, pixel_size_nm)
    return preview, see(preview, _encoder(backbone), ExploreOptions(stride=stride), EMBEDDINGS)


def look(file: Upload) -> Scan:
    """See the preview, and decide by what is given now: clicks and text are answered without another look.

    Raises:
        InputError: for a preview or options that cannot be.
    """
    options = ExploreOptions(**chosen())
    backbone = str(value("scan.backbone", BACKBONE)).strip() or BACKBONE
    pixel_size_nm = float(value("scan.pixel_size_nm", 0.0))
    with st.spinner("Looking at the preview", show_time=True):
        preview, patches = _seen(file, pixel_size_nm, backbone, options.stride)
        given = clicks_of(file)
        points = Clicks(*(np.array(given[side], np.float64).reshape(-1, 2) for side in ("positive", "negative")))
        clicks = points if len(points.positive) else None
        same = (preview.sha256s[0], backbone, options.stride, options.anomaly, options.clip)
        same += (tuple(options.text), tuple(options.without))
        before, known = st.session_state.get("known", (None, {}))
        decision = decide(preview, patches, options, clicks, known if before == same else None, EMBEDDINGS)
        st.session_state["known"] = same, decision.parts
    return Scan(file, preview, _encoder(backbone), patches, options, clicks, decision)


def calibration_of(scan: Scan) -> Calibration:
    """Where the preview lies: its middle at the stage's 0, 0. Raises: InputError without a pixel size."""
    return Calibration(scan.preview.pixels.shape, scan.preview.pixel_size_nm)


def act(scan: Scan) -> tuple[Plan, Outcome]:
    """The plan and all that is written of it; the same question is answered from what is kept.

    Raises:
        InputError: for options that cannot be, or when nothing fits into the budget.
    """
    key = sha256(repr((scan.file.sha256, scan.options, clicks_of(scan.file), scan.encoder.name)).encode()).hexdigest()
    key += f"/{scan.preview.pixel_size_nm}"
    if st.session_state.get("planned", (None,))[0] != key:
        calibration = calibration_of(scan)
        with st.spinner("Planning", show_time=True):
            plan = make_plan(scan.patches, scan.decision.priority, scan.options, calibration)
            if not len(plan.fields):
                raise InputError("no field fits into the budget: give more area or minutes")
            outcome = outcome_of(
                scan.preview, scan.patches, scan.decision, plan, scan.encoder, calibration, scan.options
            )
        st.session_state["planned"] = key, plan, outcome
    return st.session_state["planned"][1:]


def command(scan: Scan) -> str:
    """The command line that writes the same."""
    given = dict(chosen())
    if value("scan.pixel_size_nm", 0.0):
        given["pixel_size_nm"] = value("scan.pixel_size_nm")
    if scan.encoder.name != BACKBONE:
        given["backbone"] = scan.encoder.name
    if scan.clicks is not None:
        given["clicks"] = "clicks.json"
    pairs = [f"{name}={_written(setting)}" for name, setting in given.items()]
    return " ".join(
        [
            "python tools/scan.py",
            *(shlex.quote(pair) for pair in [f"preview={scan.file.path.name}", *pairs]),
            "out=scan",
        ]
    )


def _written(setting: object) -> str:
    if isinstance(setting, list):
        return "[" + ",".join(map(str, setting)) + "]"
    return f"{setting:g}" if isinstance(setting, float) else str(setting)


def strangest(scan: Scan, count: int) -> np.ndarray:
    """The middles (y, x in px) `[N, 2]` of the patches of highest priority, apart from each other."""
    side = float(min(2 * max(scan.options.scales), *scan.preview.pixels.shape))
    least = level(scan.decision.priority, "quantile", 0.9)
    return cover(scan.patches, scan.decision.priority, side, least=least).centres[:count]
