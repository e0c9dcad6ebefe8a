"""The closed loop on a simulated stage."""

import json
import threading

import numpy as np
import pytest

from sempre.errors import InputError
from sempre.frozen.prototypes import Clicks
from sempre.scan import explore as loop
from sempre.scan.explore import ExploreOptions, explore
from sempre.scan.fields import Fields
from sempre.scan.plan import TimingOptions
from sempre.scan.preview import Calibration
from sempre.scan.priorities import decide
from sempre.scan.stages import SimulatedStage, StageAborted, check_limits, list_moves
from tests.scan.conftest import STRANGE

CALIBRATION = Calibration((256, 256), 10.0)
OPTIONS = ExploreOptions(threshold="none", area_percent=40, field_px=32, retries=1)


def run(preview, patches, log, stage=None, options=OPTIONS, **arguments):
    stage = stage or SimulatedStage(preview.pixels, CALIBRATION, options)
    decision = decide(preview, patches, options)
    return explore(stage, preview, patches, decision, None, CALIBRATION, options, log, **arguments)


def events(log, *names) -> list[dict]:
    return [event for event in map(json.loads, log.read_text().splitlines()) if event["event"] in names]


def test_the_simulator_shows_the_sample_where_the_stage_is(preview):
    stage = SimulatedStage(preview.pixels, CALIBRATION, TimingOptions(), electrons_us=1000)
    row, column = STRANGE[0]
    ((x, y),) = CALIBRATION.to_stage(np.array([[row * 16 + 8, column * 16 + 8]]))
    stage.move(x, y)
    assert stage.position() == (x, y)
    image = stage.acquire(0.16, 16, 10)
    expected = preview.pixels[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.99
    assert stage.seconds > 16 * 16 * 1e-5
    flat = np.ones((64, 64))
    flat[0, 0] = 0
    noisy = SimulatedStage(flat, Calibration((64, 64), 10.0), TimingOptions(), electrons_us=10)
    short, long = noisy.acquire(0.2, 64, 0.5), noisy.acquire(0.2, 64, 50)
    assert short.std() > 2 * long.std()


def test_a_drifting_sample_wanders_under_the_beam(preview):
    still, drifting = (
        SimulatedStage(preview.pixels, CALIBRATION, TimingOptions(), drift_nm_s=drift, electrons_us=1e4)
        for drift in (0, 5)
    )
    for stage in (still, drifting):
        stage.acquire(0.64, 128, 600)  # ten seconds go by: 50 nm, 5 px of the preview
    apart = still.acquire(0.64, 64, 10).astype(float) - drifting.acquire(0.64, 64, 10)
    assert np.abs(apart).mean() > 5


def test_all_fields_are_visited_and_logged(preview, patches, tmp_path):
    done = run(preview, patches, tmp_path / "log.jsonl", micrographs=tmp_path / "fields")
    assert done.ended == "finished"
    assert not done.skipped
    visited = events(tmp_path / "log.jsonl", "visited")
    assert len(visited) == len(done.visited) == len(list((tmp_path / "fields").iterdir()))
    shown = Fields(np.array(done.visited), np.zeros(len(visited)), 64.0)
    places = np.array(STRANGE) * 16.0 + 8
    assert shown.contain(places).any(axis=0).all()
    assert [event["event"] for event in events(tmp_path / "log.jsonl", "start", "finished")] == ["start", "finished"]


def test_failing_moves_are_tried_again_then_skipped(preview, patches, tmp_path):
    stage = SimulatedStage(preview.pixels, CALIBRATION, OPTIONS, failures=0.5, seed=2)
    done = run(preview, patches, tmp_path / "log.jsonl", stage)
    assert done.visited
    assert done.skipped
    retries, skipped = (events(tmp_path / "log.jsonl", name) for name in ("retry", "skipped"))
    assert len(skipped) == len(done.skipped)
    assert len(retries) >= 2 * len(skipped)
    assert "the stage stuck" in retries[0]["error"]


def test_an_abort_ends_it_at_once_and_the_log_goes_on(preview, patches, tmp_path):
    whole = run(preview, patches, tmp_path / "whole.jsonl")
    log = tmp_path / "log.jsonl"
    stage = SimulatedStage(preview.pixels, CALIBRATION, OPTIONS, latency_s=1, pace=1000)  # hours, if it waited
    timer = threading.Timer(0.2, stage.abort)
    timer.start()
    done = run(preview, patches, log, stage)
    timer.join()
    assert done.ended == "aborted"
    assert not done.visited
    with pytest.raises(StageAborted):
        stage.move(0, 0)
    few = run(preview, patches, log, options=ExploreOptions(**{**vars(OPTIONS), "most_fields": 2}))
    assert len(few.visited) == 2
    with log.open("a") as file:
        file.write('{"event": "visi')  # a kill in the middle of a line
    rest = run(preview, patches, log)
    assert len(rest.visited) == len(set(rest.visited))
    assert np.isclose(len(rest.visited), len(whole.visited), atol=2)
    assert {event["event"] for event in events(log, "aborted", "finished")} == {"aborted", "finished"}


def test_a_judgement_changes_the_map(preview, patches, tmp_path):
    (first, second) = np.array(STRANGE) * 16.0 + 8
    asked = []

    def judge(image, centre):
        asked.append(centre)
        return bool(np.abs(np.array(centre) - first).max() < 32 or np.abs(np.array(centre) - second).max() < 32)

    options = ExploreOptions(**{**vars(OPTIONS), "most_fields": 3, "judged_weight": 5.0})
    done = run(preview, patches, tmp_path / "log.jsonl", options=options, judge=judge)
    assert len(asked) == 3
    assert len(done.positive) >= 1
    assert len(done.positive) + len(done.negative) == 3
    resumed = run(preview, patches, tmp_path / "log.jsonl", options=options)
    assert (resumed.positive, resumed.negative) == (done.positive, done.negative)


@pytest.mark.parametrize(("clicked", "weight"), [(False, 0.3), (True, 0.7)])
def test_judgements_have_their_own_weight_unless_something_was_clicked(
    preview, patches, tmp_path, monkeypatch, clicked, weight
):
    weights = []
    monkeypatch.setattr(loop, "decide", lambda *given: weights.append(decide(*given).weights) or decide(*given))
    options = ExploreOptions(**{**vars(OPTIONS), "most_fields": 1, "judged_weight": 0.3, "clicks_weight": 0.7})
    place = np.array(STRANGE[:1]) * 16.0 + 8
    clicks = Clicks(place, np.zeros((0, 2))) if clicked else None
    first, stage = decide(preview, patches, options, clicks), SimulatedStage(preview.pixels, CALIBRATION, options)
    log = tmp_path / "log.jsonl"
    explore(stage, preview, patches, first, clicks, CALIBRATION, options, log, lambda *_: True)
    assert weights == [{"anomaly": 1.0, "clicks": weight}]


def test_a_loop_that_plans_anew_goes_nowhere_twice(preview, patches, tmp_path):
    patches.vectors[0] += [9, 9, 0, 0, 0]  # in the corner, where no field can be centred
    options = ExploreOptions(**{**vars(OPTIONS), "judged_weight": 0.0, "field_um": 0.96, "area_percent": 80})
    planned = run(preview, patches, tmp_path / "planned.jsonl", options=options)
    judged = run(preview, patches, tmp_path / "judged.jsonl", options=options, judge=lambda image, centre: True)
    assert len(set(judged.visited)) == len(judged.visited) >= len(planned.visited) - 1


def test_the_strangest_patch_of_a_judged_field_counts_as_clicked(preview, patches, tmp_path):
    first, second = np.array(STRANGE) * 16.0 + 8
    log = tmp_path / "log.jsonl"
    seen = {"event": "visited", "y_px": first[0] + 16, "x_px": first[1] - 16, "judged": True, "seconds": 1.0}
    lines = {"event": "start", "preview_sha256": preview.sha256s[0]}, seen | {"stage_x_um": 0.0, "stage_y_um": 0.0}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ExploreOptions(**{**vars(OPTIONS), "area_percent": 8, "anomaly_weight": 0.0, "field_um": 0.48})
    decision = decide(preview, patches, OPTIONS)
    stage = SimulatedStage(preview.pixels, CALIBRATION, options)
    done = explore(stage, preview, patches, decision, None, CALIBRATION, options, log)
    assert np.abs(np.array(done.visited[1]) - second).max() <= 24


def test_no_move_leaves_the_limits_and_a_log_belongs_to_its_preview(preview, patches, tmp_path):
    options = ExploreOptions(**{**vars(OPTIONS), "limits_um": [-0.1, -0.1, 0.1, 0.1]})
    with pytest.raises(InputError, match="1 of 1 moves leave limits_um"):
        run(preview, patches, tmp_path / "log.jsonl", options=options)
    with pytest.raises(InputError, match=r"limits_um=\[1, 1, 0, 0\] is no area"):
        check_limits(np.zeros((1, 2)), [1, 1, 0, 0])
    (tmp_path / "other.jsonl").write_text('{"event": "start", "preview_sha256": "0"}\n')
    with pytest.raises(InputError, match="is the log of another preview"):
        run(preview, patches, tmp_path / "other.jsonl")
    lines = list_moves(Fields(np.array([[128.0, 128.0]]), np.array([0.5]), 64.0), CALIBRATION).splitlines()
    assert lines[1].split() == ["1", "0.000", "0.000", "0.500"]
