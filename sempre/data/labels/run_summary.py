"""What a run's repeats come to: over all held-out micrographs, and over each group of them."""

from collections.abc import Mapping, Sequence

from sempre.metrics import by_group, summarise, summarise_repeats


def summarise_run(repeats: Sequence[Mapping], groups: Mapping[str, str] | None = None) -> dict:
    """What `summary.json` of a run holds.

    Args:
        repeats: of each, what `sempre.data.labels.predictions.predict_and_score` gives.
        groups: the group of each micrograph by its name, if they are to be scored apart.

    Returns:
        `repeats`; `scores` over repeats, as `sempre.metrics.summarise_repeats`; and `groups`, such scores by group,
        where there are groups.
    """
    summary = {"repeats": list(repeats), "scores": summarise_repeats([repeat["summary"] for repeat in repeats])}
    if groups:
        members = [by_group(repeat["samples"], groups) for repeat in repeats]
        summary["groups"] = {
            group: summarise_repeats([summarise(of_repeat[group]) for of_repeat in members]) for group in members[0]
        }
    return summary
