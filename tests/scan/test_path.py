from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.errors import InputError
from sempre.ranges import check_ranges
from sempre.scan import plan as paths
from sempre.scan.plan import (
    TimingOptions,
    acquisition_s,
    best_within,
    nearest_neighbour,
    path_time,
    shortest_path,
    travel_times,
    two_opt,
)


def random_times(seed: int, count: int) -> np.ndarray:
    return travel_times(np.random.default_rng(seed).uniform(0, 300, (count, 2)), TimingOptions())


def test_travel_knows_speed_settling_and_the_side_that_the_stage_arrives_from():
    options = TimingOptions(speed_um_s=10, settle_s=0.5, backlash_um=5, approach=[1, 1])
    times = travel_times(np.array([[0, 0], [30, 40]]), options)
    assert times[0, 1] == pytest.approx(50 / 10 + 0.5)
    assert times[1, 0] == pytest.approx(50 / 10 + 0.5 + 2 * 5 / 10 + 0.5)
    assert times[0, 0] == 0
    free = TimingOptions(speed_um_s=10, settle_s=0.5, backlash_um=5, approach=[0, 0])
    assert travel_times(np.array([[0, 0], [30, 40]]), free)[1, 0] == pytest.approx(5.5)
    assert acquisition_s(TimingOptions(dwell_us=2, field_px=1000)) == pytest.approx(2)
    with pytest.raises(InputError, match=r"approach=\[2,0\] is out of range: give -1 to 1"):
        check_ranges(TimingOptions(approach=[2, 0]))


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_small_paths_are_near_the_shortest_of_all(routing, seed, monkeypatch):
    if routing:
        pytest.importorskip("ortools")
    monkeypatch.setattr(paths, "has_routing", lambda: routing)
    times = random_times(seed, 7)
    shortest = min(path_time(times, np.array(order)) for order in permutations(range(1, 7)))
    found = shortest_path(times)
    assert sorted(found) == list(range(1, 7))
    assert path_time(times, found) <= shortest * (1.01 if routing else 1.15)


@pytest.mark.parametrize("routing", [False, True])
def test_within_a_budget_the_most_is_collected(routing, monkeypatch):
    if routing:
        pytest.importorskip("ortools")
    monkeypatch.setattr(paths, "has_routing", lambda: routing)
    times, prizes = random_times(1, 7), np.array([1.0, 0.2, 0.7, 0.4, 0.9, 0.3])
    for budget in (4.0, 8.0, 14.0):
        best = max(
            prizes[list(np.array(order) - 1)].sum() if order else 0.0
            for count in range(7)
            for order in permutations(range(1, 7), count)
            if path_time(times, np.array(order, int)) + count <= budget
        )
        found = best_within(times, 1.0, prizes, budget)
        assert path_time(times, found) + len(found) <= budget
        assert len(set(found)) == len(found)
        assert prizes[found - 1].sum() >= 0.85 * best
    assert len(best_within(times, 1.0, prizes, 0.1)) == 0


@given(st.integers(0, 10**6), st.integers(1, 25))
def test_two_opt_keeps_the_nodes_and_never_takes_longer(seed, count):
    random = np.random.default_rng(seed)
    times = random.random((count, count)) * (1 - np.eye(count))
    first = nearest_neighbour(times)
    better = two_opt(times, first)
    assert sorted(better) == list(range(1, count))
    assert path_time(times, better) <= path_time(times, first) + 1e-9
