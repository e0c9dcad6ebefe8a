"""How much of a baseline's error a method removes."""


def error_reduction_rate(baseline_error: float, error: float) -> float:
    """ERR in per cent: 100 (baseline_error - error) / baseline_error, negative when the method is worse.

    The error of a segmentation is 1 - AJI+. A baseline without error leaves nothing to reduce: 0 when the method has
    none either, else minus infinity.
    """
    if baseline_error == 0:
        return 0.0 if error == 0 else float("-inf")
    return 100.0 * (baseline_error - error) / baseline_error
