"""Act, third: in which order fields are visited, and which of them where time is short.

An open path for a travelling salesman who does not come home; under a budget it is the orienteering problem
(Vansteenwegen et al., European Journal of Operational Research, 2011). Travel times need not be symmetric.
"""

from importlib.util import find_spec

import numpy as np

IMPROVEMENT = 1e-9  # s


def has_routing() -> bool:
    """Whether OR-tools is installed (extra `scan`)."""
    return find_spec("ortools") is not None


def shortest_path(times: np.ndarray) -> np.ndarray:
    """An order of the nodes 1 to N that is quick to travel from node 0, of travel times `[N + 1, N + 1]`.

    Nearest neighbour and 2-opt; where OR-tools is installed its local search goes on from there.
    """
    best = two_opt(times, nearest_neighbour(times))
    if has_routing() and len(best) > 3:
        from sempre.scan.act.routing import route

        routed = two_opt(times, route(times, best))
        best = min((best, routed), key=lambda order: path_time(times, order))
    return best


def best_within(times: np.ndarray, visit: float, prizes: np.ndarray, budget: float) -> np.ndarray:
    """Some of the nodes 1 to N, in order, whose travel and visits take `budget` s or less, with a high sum of prizes.

    Args:
        times: travel times `[N + 1, N + 1]`; the path begins at node 0.
        visit: seconds at each node.
        prizes: `[N]`, above 0.

    Prizes are inserted greedily, and the path is straightened by 2-opt to make room for more; where OR-tools is
    installed its local search goes on from there, and the higher sum counts.
    """
    best = _inserted(times, visit, prizes, budget)
    if has_routing() and len(best) > 1:
        from sempre.scan.act.routing import route

        routed = two_opt(times, route(times, best, visit, prizes, budget))
        if path_time(times, routed) + visit * len(routed) <= budget:
            best = max((best, routed), key=lambda order: prizes[order - 1].sum())
    return best


def path_time(times: np.ndarray, order: np.ndarray) -> float:
    """Seconds of travel from node 0 through the nodes of `order`."""
    path = np.concatenate([[0], order]).astype(int)
    return float(times[path[:-1], path[1:]].sum())


def nearest_neighbour(times: np.ndarray) -> np.ndarray:
    """From node 0 always to the nearest node that is left."""
    left = np.ones(len(times), bool)
    left[0] = False
    here, order = 0, []
    while left.any():
        here = int(np.where(left, times[here], np.inf).argmin())
        left[here] = False
        order.append(here)
    return np.array(order, int)


def two_opt(times: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The order with its parts turned round as long as that is quicker (Croes, Operations Research, 1958)."""
    path = np.concatenate([[0], order]).astype(int)
    count = len(path)
    if count < 3:
        return path[1:]
    first, last = np.triu_indices(count, 1)
    first, last = first[first > 0], last[first > 0]  # a part from `first` to `last`; node 0 stays
    while True:
        onwards = np.concatenate([[0], np.cumsum(times[path[:-1], path[1:]])])
        back = np.concatenate([[0], np.cumsum(times[path[1:], path[:-1]])])
        ahead = np.append(path, 0)  # behind the end there is nothing to travel to
        ends = last + 1 < count
        before = (
            times[path[first - 1], path[first]]
            + onwards[last]
            - onwards[first]
            + ends * times[path[last], ahead[last + 1]]
        )
        after = (
            times[path[first - 1], path[last]] + back[last] - back[first] + ends * times[path[first], ahead[last + 1]]
        )
        gain = before - after
        if not len(gain) or gain.max() <= IMPROVEMENT:
            return path[1:]
        best = int(gain.argmax())
        path[first[best] : last[best] + 1] = path[first[best] : last[best] + 1][::-1].copy()


def _inserted(times, visit, prizes, budget) -> np.ndarray:
    """Greedy insertion: always the node that brings most for the time that it adds, where it adds least."""
    order = np.zeros(0, int)
    while True:
        grown = _insert_all(times, visit, prizes, budget, order)
        if len(grown) == len(order):
            return order
        order = two_opt(times, grown)


def _insert_all(times, visit, prizes, budget, order) -> np.ndarray:
    order = order.copy()
    used = path_time(times, order) + visit * len(order)
    while True:
        left = np.setdiff1d(np.arange(1, len(times)), order)
        if not len(left):
            return order
        path = np.concatenate([[0], order]).astype(int)
        added = times[path[:, None], left[None]] + visit
        if len(order):
            added[:-1] += times[left[:, None], path[1:]].T - times[path[:-1], path[1:]][:, None]
        place = added.argmin(axis=0)
        cost = added[place, np.arange(len(left))]
        fits = used + cost <= budget
        if not fits.any():
            return order
        worth = np.where(fits, prizes[left - 1] / np.maximum(cost, 1e-9), -np.inf)
        best = int(worth.argmax())
        order = np.insert(order, place[best], left[best])
        used += cost[best]
