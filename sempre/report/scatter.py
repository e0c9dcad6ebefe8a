"""A scatter plot to explore: points coloured by groups, a thumbnail where the pointer rests. No library is fetched."""

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

THUMBNAIL = 96  # px, longer side

PAGE = """
<div class="scatter" id="{name}"><label>colours: <select></select></label><canvas></canvas><div class="groups"></div>
<div class="tip" hidden><img alt=""><p></p></div></div>
<style>
.scatter {{ position: relative; }} .scatter canvas {{ width: 100%; height: 560px; border: 1px solid #ddd; }}
.scatter .groups button {{ border: 0; background: none; font: inherit; cursor: pointer; margin-right: 1em; }}
.scatter .groups button.off {{ opacity: .3; }} .scatter .groups i {{ display: inline-block; width: .8em; height: .8em;
border-radius: 50%; margin-right: .3em; }}
.scatter .tip {{ position: absolute; pointer-events: none; background: #fff; border: 1px solid #bbb; padding: 6px;
font-size: .8em; max-width: 240px; box-shadow: 0 2px 6px #0003; z-index: 1; }} .scatter .tip p {{ margin: 4px 0 0;
white-space: pre-line; overflow-wrap: anywhere; }}
</style>
<script>
(() => {{
  const points = {points}, colourings = {colourings}, root = document.getElementById("{name}");
  const canvas = root.querySelector("canvas"), tip = root.querySelector(".tip"), select = root.querySelector("select");
  const legend = root.querySelector(".groups");
  let colouring = 0, shown = [];
  const groupOf = p => p.groups[colouring];
  const color = g => g < 0 ? "#999" : `hsl(${{(g * 137.5) % 360}} 65% 45%)`;
  const xs = points.map(p => p.x), ys = points.map(p => p.y);
  const reduce = (f, values) => values.reduce((a, b) => f(a, b));
  const [x0, x1, y0, y1] = [reduce(Math.min, xs), reduce(Math.max, xs), reduce(Math.min, ys), reduce(Math.max, ys)];
  const margin = 24, place = p => [
    margin + (p.x - x0) / (x1 - x0 || 1) * (canvas.clientWidth - 2 * margin),
    canvas.clientHeight - margin - (p.y - y0) / (y1 - y0 || 1) * (canvas.clientHeight - 2 * margin)];
  const visible = p => groupOf(p) < 0 || shown[groupOf(p)];
  let hovered = null;
  function draw() {{
    const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
    context.scale(ratio, ratio);
    for (const p of points.filter(visible)) {{
      const [x, y] = place(p);
      context.beginPath(); context.arc(x, y, p === hovered ? 8 : 4, 0, 7);
      context.fillStyle = color(groupOf(p)); context.globalAlpha = p === hovered ? 1 : .7; context.fill();
    }}
  }}
  canvas.addEventListener("mousemove", event => {{
    let best = null, nearest = 15;
    for (const p of points.filter(visible)) {{
      const [x, y] = place(p), d = Math.hypot(x - event.offsetX, y - event.offsetY);
      if (d < nearest) {{ nearest = d; best = p; }}
    }}
    if (best !== hovered) {{
      hovered = best; draw(); tip.hidden = !best;
      if (best) {{
        const image = tip.querySelector("img"); image.hidden = !best.image;
        if (best.image) image.src = "data:image/jpeg;base64," + best.image;
        tip.querySelector("p").textContent = best.text;
      }}
    }}
    const right = event.offsetX > canvas.clientWidth / 2;
    tip.style.left = right ? "" : event.offsetX + 14 + "px";
    tip.style.right = right ? canvas.clientWidth - event.offsetX + 14 + "px" : "";
    tip.style.top = Math.min(event.offsetY, canvas.clientHeight - 170) + "px";
  }});
  canvas.addEventListener("mouseleave", () => {{ hovered = null; tip.hidden = true; draw(); }});
  function choose(number) {{
    colouring = number; shown = colourings[number].groups.map(() => true); legend.replaceChildren();
    colourings[number].groups.forEach((name, g) => {{
      const button = document.createElement("button"), dot = document.createElement("i");
      dot.style.background = color(g); button.append(dot, name);
      button.onclick = () => {{ shown[g] = !shown[g]; button.classList.toggle("off"); draw(); }};
      legend.append(button);
    }});
    draw();
  }}
  colourings.forEach((c, number) => select.add(new Option(c.name, number)));
  select.onchange = () => choose(Number(select.value));
  window.addEventListener("resize", draw); choose(0);
}})();
</script>
"""


@dataclass(frozen=True)
class Colouring:
    """A way to colour N points: `group` `[N]` counts into the names `groups`, -1 = none, drawn grey."""

    name: str
    group: np.ndarray
    groups: Sequence[str]


def scatter(
    name: str,
    points: np.ndarray,
    texts: Sequence[str],
    colourings: Sequence[Colouring],
    thumbnails: Sequence[bytes | None],
) -> str:
    """An HTML part for `sempre.report.html.write_page`.

    Args:
        name: of the part within its page.
        points: `[N, 2]`.
        texts: what is shown beside a thumbnail; N of them.
        colourings: to choose from, one at the least; a click on a group's name hides or shows its points.
        thumbnails: JPEG files as `thumbnail` makes them, or None.
    """
    rows = [
        {
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "groups": [int(colouring.group[position]) for colouring in colourings],
            "text": texts[position],
            "image": base64.b64encode(thumbnails[position] or b"").decode(),
        }
        for position, (x, y) in enumerate(points)
    ]
    choices = [{"name": colouring.name, "groups": list(colouring.groups)} for colouring in colourings]
    return PAGE.format(name=html.escape(name), points=_for_script(rows), colourings=_for_script(choices))


def thumbnail(pixels: np.ndarray) -> bytes:
    """A JPEG file of grey pixels uint8 `[H, W]`, at most 96 px wide and high."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=75)
    return buffer.getvalue()


def _for_script(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
