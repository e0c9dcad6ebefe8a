"""Figures as journals take them: at a column's width, as PDF and as PNG."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from sempre.files import ORIGIN, whole_or_absent

WIDE = (
    180 / 25.4
)  # inches, two columns of Nature's journals, https://www.nature.com/nature/for-authors/final-submission
LETTERS = 7  # pt, the largest that they take; 5 is the smallest
DOTS = 450  # an inch, of the PNG


def save_figure(figure: Figure, path: Path) -> None:
    """Write `path` with the suffixes .pdf (letters stay letters) and .png; each is whole or absent."""
    with whole_or_absent(path.with_name(f"{path.name}.pdf")) as partial, rc_context({"pdf.fonttype": 42}):
        figure.savefig(partial, format="pdf", dpi=DOTS, metadata={"Creator": ORIGIN, "CreationDate": None})
    with whole_or_absent(path.with_name(f"{path.name}.png")) as partial:
        figure.savefig(partial, format="png", dpi=DOTS, metadata={"Software": ORIGIN})
