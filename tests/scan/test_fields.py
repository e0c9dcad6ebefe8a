import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.errors import InputError
from sempre.frozen.encoder import Grid
from sempre.scan.fields import Fields, blobs_of, cover, level, tiling
from sempre.scan.outcome import Targets, compare, follow
from sempre.scan.patches import Patches
from sempre.scan.plan import PlanOptions, TimingOptions, acquisition_s, make_plan, travel_times
from sempre.scan.preview import Calibration


def at(patches, places: dict) -> np.ndarray:
    priority = np.zeros(patches.shape, np.float32)
    for place, value in places.items():
        priority[place] = value
    return priority.ravel()


def test_near_places_share_a_field_and_the_most_urgent_comes_first(patches):
    priority = at(patches, {(2, 2): 0.6, (3, 3): 0.5, (10, 12): 0.9})
    fields = cover(patches, priority, 64)
    assert len(fields) == 2
    assert fields.priority.tolist() == pytest.approx([0.9, 0.6])
    shown = fields.contain(patches.centres[priority > 0]).any(axis=0)
    assert shown.all()


def test_a_large_blob_is_tiled_without_gaps_and_an_area_budget_is_kept(patches):
    priority = np.ones(patches.shape, np.float32).ravel()
    fields = cover(patches, priority, 64)
    assert fields.contain(patches.centres).any(axis=0).all()
    few = cover(patches, priority, 64, area=0.2)
    covered = np.zeros((256, 256), bool)
    for window in few.windows((256, 256)):
        covered[window] = True
    assert 0.1 < covered.mean() <= 0.2
    with pytest.raises(InputError, match="a field of view of 300 px is no part of a preview of 256x256 px"):
        cover(patches, priority, 300)


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15), st.floats(0.1, 1)), min_size=1, max_size=12),
    st.sampled_from([48, 96]),
)
def test_what_has_been_visited_is_not_planned_again_and_counts_as_area(places, side):
    patches = Patches(Grid(256, 256, 256, 256, 16), np.zeros((256, 1), np.float32))
    priority = at(patches, {(row, column): value for row, column, value in places})
    visited = np.zeros((0, 2))
    while len(rest := cover(patches, priority, side, area=0.4, visited=visited)):
        assert not {*map(tuple, rest.centres)} & {*map(tuple, visited)}
        visited = np.concatenate([visited, rest.centres[:1]])
    done = Fields(visited, np.zeros(len(visited)), side)
    assert done.contain(patches.centres[priority.ravel() == priority.max()]).any()
    covered = np.zeros((256, 256), bool)
    for window in done.windows(covered.shape):
        covered[window] = True
    assert covered.mean() <= 0.4
    assert len(cover(patches, priority, side, skipped=cover(patches, priority, side).centres)) == 0


def test_thresholds_and_blobs():
    values = np.zeros((60, 60), np.float32)
    values[10:20, 10:20] = 0.8
    values[10:20, 23:33] = 0.6
    values[50, 50] = 1.0
    assert 0 < level(values, "otsu") < 0.6
    assert level(values, "none") == 0
    assert level(values, "quantile", 0.5) == np.quantile(values, 0.5)
    labels, blobs = blobs_of(values, 0.1)
    assert [blob.area for blob in blobs] == [1, 100, 100]
    assert blobs[1].centroid == (14.5, 14.5)
    assert blobs[1].priority == pytest.approx(0.8)
    assert blobs[1].diameter == pytest.approx(np.sqrt(400 / np.pi))
    assert labels[15, 15] == 2
    _, merged = blobs_of(values, 0.1, gap=4, smallest=2)
    assert [blob.area for blob in merged] == [200]
    with pytest.raises(InputError, match="threshold=odd is unknown"):
        level(values, "odd")


def test_calibration_goes_there_and_back():
    calibration = Calibration((100, 200), 50.0, (10.0, -5.0), 30.0)
    np.testing.assert_allclose(calibration.to_stage(np.array([[50, 100]])), [[10, -5]])
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    np.testing.assert_allclose(calibration.to_px(calibration.to_stage(points)), points)
    upright = Calibration((100, 200), 50.0)
    np.testing.assert_allclose(upright.to_stage(np.array([[0, 0]])), [[-5, 2.5]])  # the stage's y grows upwards
    with pytest.raises(InputError, match="does not say its pixel size"):
        Calibration((100, 200), None)


def test_the_curve_counts_each_px_once_and_the_stage_as_it_moves(patches):
    calibration, timing = Calibration((256, 256), 10.0), TimingOptions(field_px=100, dwell_us=10)
    fields, columns = tiling((256, 256), 64, overlap=0)
    assert (len(fields), columns) == (16, 4)
    start = np.zeros(2)
    targets = Targets(np.array([[10.0, 10.0], [250.0, 250.0]]), np.array([0.25, 0.75]))
    curve = follow(fields, calibration, timing, targets, start)
    np.testing.assert_allclose(curve.area, np.arange(1, 17) / 16)
    assert curve.coverage[0] == 0.25
    assert curve.coverage[14] == 0.25
    assert curve.coverage[-1] == 1
    positions = np.concatenate([[start], calibration.to_stage(fields.centres)])
    times = travel_times(positions, timing)
    total = sum(times[step, step + 1] for step in range(16)) + 16 * acquisition_s(timing)
    assert curve.seconds[-1] == pytest.approx(total)
    assert curve.at_area(0.5) == 0.25
    curves = compare(fields, calibration, timing, targets, start, overlap=0)
    assert curves["oracle"].coverage[1] == 1
    assert curves["oracle"].coverage[0] == 0.75
    assert curves["raster"].coverage[0] == 0.25
    assert all(found.coverage[-1] == 1 for found in curves.values())


def test_a_plan_within_minutes_collects_what_is_urgent_and_is_in_time(patches):
    random = np.random.default_rng(0)
    priority = random.random(256).astype(np.float32)
    calibration = Calibration((256, 256), 100.0)
    options = PlanOptions(threshold="none", minutes=0.25, field_px=512)
    plan = make_plan(patches, priority, options, calibration)
    positions = np.concatenate([plan.start[None], calibration.to_stage(plan.fields.centres)])
    times = travel_times(positions, options)
    used = sum(times[step, step + 1] + acquisition_s(options) for step in range(len(plan.fields)))
    assert 10 < used <= 15
    whole = make_plan(patches, priority, PlanOptions(threshold="none"), calibration)
    assert plan.fields.priority.mean() > whole.fields.priority.mean()
    with pytest.raises(InputError, match="area_percent=0"):
        make_plan(patches, priority, PlanOptions(area_percent=0), calibration)
