"""Think, as a whole: strangeness, clicks and words, each a priority, and their mixture."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from sempre.embeddings.segmentation.points import NO_CLICKS, Clicks
from sempre.errors import InputError
from sempre.ranges import Count, OneOf, PositiveOrZero, Seed
from sempre.scan.preview import Preview
from sempre.scan.think.anomaly import METHODS, strangeness
from sempre.scan.think.patches import Patches, PatchOptions
from sempre.scan.think.priority import mixed, priorities
from sempre.scan.think.teacher import taught
from sempre.scan.think.text import text_scores

PARTS = ("anomaly", "clicks", "text")


@dataclass(kw_only=True)
class ThinkOptions(PatchOptions):
    anomaly: Annotated[str, OneOf(*METHODS)] = "neighbours"  # what finds the strange
    text: list[str] = field(default_factory=list)  # what is sought in words, for example [cracks,long thin lines]
    without: list[str] = field(default_factory=list)  # what is not, for example [round particles]
    clip: str = ""  # folder with CLIP's weights, for text
    anomaly_weight: PositiveOrZero = 1.0  # of strangeness in the priority
    clicks_weight: PositiveOrZero = 1.0  # of likeness to what was clicked, where something was
    text_weight: PositiveOrZero = 1.0  # of likeness to text, where there is some
    background: Count = 100  # patches that are drawn as what is not sought, beside negative clicks
    seed: Seed = 0  # of trees, banks and background


@dataclass(frozen=True)
class Decision:
    """The priority float32 `[rows * columns]` of patches, the parts it is mixed from, and their weights."""

    priority: np.ndarray
    parts: dict[str, np.ndarray]
    weights: dict[str, float]


def decide(
    preview: Preview,
    patches: Patches,
    options: ThinkOptions,
    clicks: Clicks | None = None,
    known: dict[str, np.ndarray] | None = None,
    embeddings: str = "runs/embeddings",
) -> Decision:
    """The priority of each patch: strangeness, and likeness to clicks and text where there are any, by weight.

    A click is answered sooner with the parts of an earlier decision, `known`: those that no click changes are taken
    from there. A part of weight 0 is not computed.

    Raises:
        InputError: for options that cannot be, or when nothing is left to decide by.
    """
    largest, given = max(options.scales), clicks or NO_CLICKS
    makers: dict[str, tuple[float, bool, Callable[[], np.ndarray]]] = {
        "anomaly": (
            options.anomaly_weight,
            True,
            lambda: strangeness(patches, options.anomaly, options.seed, overlap=largest),
        ),
        "clicks": (
            options.clicks_weight,
            len(given.positive) > 0,
            lambda: taught(patches, given, options.background, largest, options.seed),
        ),
        "text": (
            options.text_weight,
            bool(options.text),
            lambda: text_scores(
                preview, patches.grid, largest, options.text, options.without, options.clip, embeddings
            ),
        ),
    }
    parts, weights = {}, {}
    for name, (weight, there, make) in makers.items():
        if not 0 <= weight < np.inf:
            raise InputError(f"{name}_weight={weight} cannot be: take 0 or more")
        if not there or weight == 0:
            continue
        parts[name] = known[name] if known and name != "clicks" and name in known else priorities(make())
        weights[name] = weight
    if not parts:
        raise InputError("nothing is left to decide by: give clicks=, text=, or anomaly_weight above 0")
    return Decision(mixed(parts, weights), parts, weights)
