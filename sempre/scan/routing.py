"""Paths by OR-tools' routing library (extra `scan`): a local search that knows one-way times, prizes and a budget."""

import numpy as np
from ortools.constraint_solver import pywrapcp, routing_enums_pb2

PER_SECOND = 1000  # OR-tools computes in integers: ms
PRIZE = 10**7  # what all prizes together are worth, in ms of travel: more than any path takes
SOLUTIONS = 300  # that the search looks through: a limit on work, so that a slower machine finds the same path
LONGEST_S = 20  # and one on time, for problems that are too large


def route(
    times: np.ndarray,
    start: np.ndarray,
    visit: float = 0.0,
    prizes: np.ndarray | None = None,
    budget: float | None = None,
) -> np.ndarray:
    """A better order than `start` of the nodes 1 to N from node 0 on, of travel times `[N + 1, N + 1]` in s.

    With `prizes` `[N]` and a `budget` in s some nodes are left out: travel and `visit` s at each node fit into it, and
    the prizes that are left behind are as few as the search finds. `start` itself where it finds nothing.
    """
    count = len(times)
    whole = np.zeros((count + 1, count + 1), np.int64)  # the last node is the end, from everywhere at no distance
    whole[:count, :count] = np.ceil((times + visit * (np.arange(count) > 0)[None]) * PER_SECOND)
    np.fill_diagonal(whole, 0)
    manager = pywrapcp.RoutingIndexManager(count + 1, 1, [0], [count])
    routing = pywrapcp.RoutingModel(manager)
    transit = routing.RegisterTransitMatrix(whole.tolist())
    routing.SetArcCostEvaluatorOfAllVehicles(transit)
    if prizes is not None and budget is not None:
        routing.AddDimension(transit, 0, int(budget * PER_SECOND), True, "time")
        for node, prize in enumerate(prizes / prizes.sum(), start=1):
            routing.AddDisjunction([manager.NodeToIndex(node)], int(prize * PRIZE))
    parameters = pywrapcp.DefaultRoutingSearchParameters()
    parameters.local_search_metaheuristic = routing_enums_pb2.LocalSearchMetaheuristic.GUIDED_LOCAL_SEARCH
    parameters.solution_limit = SOLUTIONS
    parameters.time_limit.seconds = LONGEST_S
    routing.CloseModelWithParameters(parameters)
    first = routing.ReadAssignmentFromRoutes([start.tolist()], True)
    solution = routing.SolveFromAssignmentWithParameters(first, parameters) if first else None
    if not solution:
        return start
    order, index = [], routing.Start(0)
    while not routing.IsEnd(index):
        order.append(manager.IndexToNode(index))
        index = solution.Value(routing.NextVar(index))
    return np.array(order[1:], int)
