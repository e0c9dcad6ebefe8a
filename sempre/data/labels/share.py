"""How work on the micrographs of a labelled set is shared."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tqdm import tqdm


class Share(Protocol):
    """How the micrographs that are to be worked on are shared: by this process alone (`one_by_one`), or by all of a run
    (`sempre.training.shared_work.SharedWork`).

    `share(positions, work, label)` gives `work(position)` of each position, in the order of the positions, in every
    process. What `work` gives is made of what JSON knows. `label` says what is being done.
    """

    def __call__(self, positions: Iterable[int], work: Callable[[int], Any], label: str) -> list[Any]: ...


def one_by_one(positions: Iterable[int], work: Callable[[int], Any], label: str) -> list[Any]:
    """`Share` for one process."""
    return [work(position) for position in tqdm(list(positions), desc=label, unit="image")]
