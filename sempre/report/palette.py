"""Okabe and Ito's palette, which the colour-blind tell apart too, and the colours and markers of arms in figures.

"Color Universal Design", https://jfly.uni-koeln.de/color/, 2008. Colours are RGB, 0 to 255.
"""

from collections.abc import Iterable

BLACK = (0, 0, 0)
ORANGE = (230, 159, 0)
SKY_BLUE = (86, 180, 233)
BLUISH_GREEN = (0, 158, 115)
YELLOW = (240, 228, 66)
BLUE = (0, 114, 178)
VERMILLION = (213, 94, 0)
REDDISH_PURPLE = (204, 121, 167)

# Without yellow, which is pale on white paper; the first few differ most.
ARMS = ((BLUE, "o"), (ORANGE, "s"), (BLUISH_GREEN, "^"), (REDDISH_PURPLE, "D"), (BLACK, "v"), (SKY_BLUE, "P"))


def arm_styles(names: Iterable[str]) -> dict[str, dict]:
    """matplotlib's `color` and `marker` of each arm; from the seventh on they come again."""
    styles = {}
    for number, name in enumerate(names):
        colour, marker = ARMS[number % len(ARMS)]
        styles[name] = {"color": tuple(channel / 255 for channel in colour), "marker": marker}
    return styles
