"""The closed loop: go, acquire, update the map, plan the rest anew; and a log that says what has been done.

The log is JSON lines, each flushed: `start` (the preview's checksum), then `visited`, `retry`, `skipped`, and at the
end `aborted` or `finished`. A loop that finds its log goes on behind it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from sempre.errors import InputError
from sempre.frozen.prototypes import NO_CLICKS, Clicks
from sempre.images.write import write_micrograph
from sempre.ranges import CountOrZero, Items, PositiveOrZero, Range
from sempre.scan.patches import Patches
from sempre.scan.plan import PlanOptions, acquisition_s, make_plan, travel_times
from sempre.scan.preview import Calibration, Preview
from sempre.scan.priorities import Decision, ThinkOptions, decide
from sempre.scan.stages import Stage, StageAborted, StageError, check_limits

Judge = Callable[[np.ndarray, tuple[float, float]], bool | None]

Limits = Annotated[list[float], Items(0, 4), Range()]


@dataclass(kw_only=True)
class ExploreOptions(ThinkOptions, PlanOptions):
    retries: CountOrZero = 2  # retries of a failed move or acquisition before its field is skipped
    judged_weight: PositiveOrZero = 0.1  # weight of similarity to judged fields, if nothing was clicked
    most_fields: CountOrZero = 0  # largest number of fields; 0: as many as the budget allows
    limits_um: Limits = field(default_factory=list)  # allowed range of the stage, um: [x0,y0,x1,y1]


@dataclass
class Progress:
    """What has been done: middles (y, x in px) of fields `visited` and `skipped`, those judged to show what is sought
    or not, the stage's position, and the seconds of stage and beam that it took by the timing given."""

    visited: list[tuple[float, float]]
    skipped: list[tuple[float, float]]
    positive: list[tuple[float, float]]
    negative: list[tuple[float, float]]
    position: np.ndarray
    seconds: float = 0.0
    ended: str = ""


def explore(
    stage: Stage,
    preview: Preview,
    patches: Patches,
    decision: Decision,
    clicks: Clicks | None,
    calibration: Calibration,
    options: ExploreOptions,
    log: str | Path,
    judge: Judge | None = None,
    micrographs: str | Path | None = None,
) -> Progress:
    """Visit fields until the budget is spent or nothing of priority is left.

    Args:
        clicks: those that `decision` was made with.
        log: its file; what it says has been done is not done again.
        judge: told each micrograph and its field's middle (y, x in px of the preview), says whether it shows what is
            sought, or None: True and False count as clicks, and the rest is planned by the new map.
        micrographs: folder for what is acquired.

    A failing move or acquisition is tried again, then its field is skipped; the plan goes on from where the stage is.
    `stage.abort()`, from another thread, ends the loop at once.

    Raises:
        InputError: for a log of another preview, and for a move that leaves the limits, before it is made.
    """
    log = Path(log)
    progress = read_log(log, preview, calibration)
    clicks = clicks or NO_CLICKS
    known = {name: part for name, part in decision.parts.items() if name != "clicks"}
    side = options.side_px(calibration)
    with log.open("a", encoding="utf-8") as file:

        def note(event: str, **details) -> None:
            file.write(json.dumps({"event": event, **details}) + "\n")
            file.flush()

        if not log.stat().st_size:
            note("start", preview_sha256=preview.sha256s[0])
        priority, waiting = _updated(preview, patches, decision, clicks, known, progress, options, side), None
        while not options.most_fields or len(progress.visited) < options.most_fields:
            if waiting is None:
                waiting = _rest(patches, priority, options, calibration, progress)
            if not len(waiting):
                progress.ended = "finished"
                break
            (centre,), waiting = waiting.centres[:1], waiting[np.arange(1, len(waiting))]
            ((x, y),) = calibration.to_stage(centre[None])
            if options.limits_um:
                check_limits(np.array([[x, y]]), options.limits_um)
            place = {"x_px": float(centre[1]), "y_px": float(centre[0]), "stage_x_um": float(x), "stage_y_um": float(y)}
            try:
                image = _attempt(stage, x, y, waiting.side, calibration, options, note, place)
            except StageAborted:
                progress.ended = "aborted"
                break
            travel = travel_times(np.stack([progress.position, [x, y]]), options)[0, 1]
            progress.position = np.array(stage.position(), np.float64)
            if image is None:
                progress.seconds += travel
                progress.skipped.append(tuple(centre))
                note("skipped", **place, seconds=progress.seconds)
                continue  # with the moves that were listed: none takes its place
            progress.seconds += travel + acquisition_s(options)
            progress.visited.append(tuple(centre))
            if micrographs is not None:
                Path(micrographs).mkdir(parents=True, exist_ok=True)
                pixel_size_nm = waiting.side * calibration.nm_per_px / image.shape[1]
                write_micrograph(Path(micrographs) / f"field_{len(progress.visited):04}.tif", image, pixel_size_nm)
            judged = judge(image, tuple(centre)) if judge else None
            note("visited", **place, seconds=progress.seconds, judged=judged)
            if judged is not None:
                (progress.positive if judged else progress.negative).append(tuple(centre))
                priority, waiting = _updated(preview, patches, decision, clicks, known, progress, options, side), None
        progress.ended = progress.ended or "finished"
        note(progress.ended, visited=len(progress.visited), skipped=len(progress.skipped), seconds=progress.seconds)
    return progress


def read_log(log: Path, preview: Preview, calibration: Calibration) -> Progress:
    """What a log says has been done; nothing where there is none.

    Raises:
        InputError: for a log of another preview, or a file that is none.
    """
    progress = Progress([], [], [], [], np.array(calibration.centre_um, np.float64))
    if not log.exists():
        return progress
    try:
        content = log.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # a line that a kill cut short says nothing, and the next must not follow it
            log.write_bytes(whole)
        events = [json.loads(line) for line in whole.splitlines()]
        if events and events[0]["preview_sha256"] != preview.sha256s[0]:
            raise InputError(f"{log} is the log of another preview: give another out=")
        for event in events:
            if event["event"] not in ("visited", "skipped"):
                continue
            centre = event["y_px"], event["x_px"]
            getattr(progress, event["event"]).append(centre)
            if event.get("judged") is not None:
                (progress.positive if event["judged"] else progress.negative).append(centre)
            progress.position = np.array([event["stage_x_um"], event["stage_y_um"]])
            progress.seconds = event["seconds"]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{log} is no log of a scan ({error}): give another out=") from error
    return progress


def _attempt(stage, x, y, side, calibration, options, note, place) -> np.ndarray | None:
    """The micrograph there; None when every try failed."""
    for attempt in range(options.retries + 1):
        try:
            stage.move(x, y)
            return stage.acquire(side * calibration.um_per_px, options.field_px, options.dwell_us)
        except StageError as error:
            note("retry", **place, attempt=attempt + 1, error=str(error))
    return None


def _updated(preview, patches, decision, clicks, known, progress, options, side) -> np.ndarray:
    """The priorities after what has been judged.

    A field is judged as a whole; what it was laid for, its patch of the highest priority, is what counts as clicked.
    """
    if not progress.positive and not progress.negative:
        return decision.priority
    both = Clicks(
        *(
            np.concatenate([given, *(_reason(patches, decision.priority, centre, side) for centre in judged)])
            for given, judged in ((clicks.positive, progress.positive), (clicks.negative, progress.negative))
        )
    )
    if not len(clicks.positive):
        options = replace(options, clicks_weight=options.judged_weight)
    return decide(preview, patches, options, both, known).priority


def _reason(patches, priority, centre, side) -> np.ndarray:
    """The middle `[1, 2]` of the patch of the highest priority that a field shows."""
    shown = np.flatnonzero(np.abs(patches.centres - centre).max(axis=1) <= max(side, patches.grid.cell) / 2)
    middle = patches.centres[shown[priority[shown].argmax()]]
    # The last patches' middles may lie beyond the preview's border.
    return np.minimum(middle, np.array([patches.grid.height, patches.grid.width]) - 0.5)[None]


def _rest(patches, priority, options, calibration, progress):
    """The fields that are left, planned from where the stage is within what is left of the budget."""
    return make_plan(
        patches,
        priority,
        options,
        calibration,
        progress.position,
        np.array(progress.visited).reshape(-1, 2),
        np.array(progress.skipped).reshape(-1, 2),
        progress.seconds,
    ).fields
