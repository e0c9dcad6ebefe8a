"""Pictures as charts: a micrograph that marks can lie on, be hovered over and clicked.

Altair comes with Streamlit and its selections are a part of Streamlit's own interface.
"""

import base64
import io

import altair as alt
import numpy as np
import pandas as pd
from PIL import Image

LONGEST = 1600  # px of a picture in the page
HEIGHT = 620  # px of its place
QUALITY = 90
MOST_CELLS = 10_000  # that can be clicked


def reduced(picture: np.ndarray, longest: int = LONGEST) -> tuple[np.ndarray, int]:
    """A picture `[H, W]` or `[H, W, 3]` made `longest` px or less by a whole factor, and the factor."""
    factor = max(1, -(-max(picture.shape[:2]) // longest))
    return (picture if factor == 1 else np.asarray(Image.fromarray(picture).reduce(factor))), factor


def data_url(picture: np.ndarray) -> str:
    """A picture uint8 as a JPEG in a URL."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def picture_layer(picture: np.ndarray, shape: tuple[int, int], title: str) -> alt.Chart:
    """A picture uint8 that stands for `shape` (H, W) px of the micrograph; marks lie on it in these px."""
    height, width = shape
    corners = pd.DataFrame({"x": [0], "y": [0], "x2": [width], "y2": [height], "url": [data_url(picture)]})
    return (
        alt.Chart(corners, description=title)
        .mark_image(aspect=False)
        .encode(x=across(shape), x2="x2:Q", y=down(shape), y2="y2:Q", url="url:N")
    )


def across(shape: tuple[int, int], field: str = "x") -> alt.X:
    """The axis of x in px: the picture is as large as its place lets it, and keeps its proportions."""
    ratio = shape[1] / shape[0]
    end = {"expr": f"min(width, height * {ratio})"}
    return alt.X(f"{field}:Q", axis=None, scale=alt.Scale(domain=[0, shape[1]], range=[0, end], nice=False))


def down(shape: tuple[int, int], field: str = "y") -> alt.Y:
    """The axis of y in px, downwards."""
    ratio = shape[1] / shape[0]
    end = {"expr": f"min(height, width / {ratio})"}
    return alt.Y(f"{field}:Q", axis=None, scale=alt.Scale(domain=[0, shape[0]], range=[0, end], nice=False))


def layered(*layers: alt.Chart, height: int = HEIGHT) -> alt.LayerChart:
    """Layers as one picture; the wheel with Shift zooms, dragging moves."""
    zoom = alt.selection_interval(bind="scales", zoom="wheel![event.shiftKey]")
    first, *others = layers
    return (
        alt.layer(first.add_params(zoom), *others)
        .properties(height=height, padding=0)
        .configure_view(stroke=None, fill=None, clip=True)
    )


def cells_layer(shape: tuple[int, int], stride: int, name: str) -> alt.Chart:
    """Squares of `stride` px, or a whole number of times that, all over `shape`; one that is clicked is selected as
    `name`, with its middle as `row` and `column` in px."""
    while -(-shape[0] // stride) * -(-shape[1] // stride) > MOST_CELLS:
        stride *= 2
    rows, columns = (np.arange(0, length, stride) for length in shape)
    y, x = (values.ravel() for values in np.meshgrid(rows, columns, indexing="ij"))
    bottom, right = np.minimum(y + stride, shape[0]), np.minimum(x + stride, shape[1])
    table = pd.DataFrame(
        {"x": x, "y": y, "x2": right, "y2": bottom, "row": (y + bottom) / 2, "column": (x + right) / 2}
    )
    hovered = alt.selection_point(on="pointerover", clear="pointerout", empty=False, name="hovered")
    clicked = alt.selection_point(fields=["row", "column"], empty=False, name=name, toggle=False)
    return (
        alt.Chart(table)
        .mark_rect(cursor="crosshair", fill="white")
        .encode(
            x=across(shape),
            x2="x2:Q",
            y=down(shape),
            y2="y2:Q",
            fillOpacity=alt.when(hovered).then(alt.value(0.35)).otherwise(alt.value(0.0)),
        )
        .add_params(hovered, clicked)
    )
