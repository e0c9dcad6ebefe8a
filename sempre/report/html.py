"""A page that is one file: pictures inside, nothing fetched."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sempre.files import whole_or_absent

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h3 { font-size: 1em; margin: 1.5em 0 .5em; }
h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: 1em 0; } td, th { padding: .3em .9em; border-bottom: 1px solid #eee; }
th, td { text-align: right; } th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } .row { display: flex; gap: 6px; } .row figure { flex: 1; margin: 0 0 8px; min-width: 0; }
figcaption { font-size: .85em; color: #555; }
"""


def write_page(path: str | Path, title: str, parts: Sequence[str]) -> None:
    """Write a page of HTML parts (`heading`, `paragraph`, `table`, `picture`, `figure_row` and others)."""
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><body>\n{body}\n</body></html>\n"
    )
    with whole_or_absent(path) as partial:
        partial.write_text(page, encoding="utf-8")


def heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def subheading(text: str) -> str:
    return f"<h3>{html.escape(text)}</h3>"


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def linked(pages: Mapping[str, str]) -> str:
    """Links, by their names, to pages beside this one."""
    links = (f'<a href="{html.escape(address)}">{html.escape(name)}</a>' for name, address in pages.items())
    return f"<p>{' · '.join(links)}</p>"


def picture(source: np.ndarray | Figure | Path, caption: str = "") -> str:
    """A picture: pixels uint8 `[H, W]` or, kept as JPEG, `[H, W, 3]`; a matplotlib figure, or a PNG file."""
    buffer, kind = io.BytesIO(), "png"
    if isinstance(source, Path):
        buffer.write(source.read_bytes())
    elif isinstance(source, Figure):
        source.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    elif source.ndim == 2:
        Image.fromarray(source).save(buffer, format="PNG")
    else:
        kind = "jpeg"
        Image.fromarray(source).save(buffer, format="JPEG", quality=88, subsampling=0)  # thin lines keep their colour
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}"><figcaption>{text}</figcaption></figure>'


def figure_row(pictures: Sequence[str]) -> str:
    """Pictures side by side."""
    return f'<div class="row">{"".join(pictures)}</div>'


def figure_rows(pictures: Sequence[str], columns: int) -> list[str]:
    """Pictures in rows of `columns`, all of the same width."""
    padded = [*pictures, *["<figure></figure>"] * (-len(pictures) % columns)]
    return [figure_row(padded[first : first + columns]) for first in range(0, len(padded), columns)]
