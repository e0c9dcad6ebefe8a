// The picture on which particles are corrected. Edits go to Python as a list of those that it has not applied yet, so
// that none is lost while the page computes. Points are [y, x] in px of the micrograph.

const TOOLS = {
  delete: ["Delete", "Click a particle to delete it."],
  merge: ["Merge", "Click two particles to merge them into one."],
  split: ["Split", "Draw a line through a particle, from outside to outside."],
  polygon: ["Polygon", "Click the corners of a new particle; double-click or Enter closes it, Escape drops it."],
  brush: ["Brush", "Paint a new particle; a stroke that begins on a particle makes that one larger."],
};
const HIGHEST = 620; // px of the page
const MOST_ZOOM = 32;

function begin(root) {
  const tools = root.querySelector(".tools");
  const canvas = root.querySelector("canvas");
  const hint = root.querySelector(".hint");
  const size = root.querySelector("input");
  const image = new Image();
  const view = { zoom: 1, x: 0, y: 0 }; // x, y: the micrograph's px at the upper left corner
  let data = { picture: "", width: 1, height: 1, applied: 0, edits: 0 };
  let send = () => {};
  let tool = "delete";
  let points = []; // of what is being drawn
  let pointer = null;
  let drawing = false;
  let dragged = null;
  let pending = [];
  let last = 0;

  const fit = () => Math.min(canvas.clientWidth / data.width, canvas.clientHeight / data.height);
  const scale = () => fit() * view.zoom;

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [view.y + (event.clientY - box.top) / scale(), view.x + (event.clientX - box.left) / scale()];
  }

  function draw() {
    const sharp = window.devicePixelRatio || 1;
    canvas.style.height = `${Math.min(HIGHEST, (canvas.clientWidth * data.height) / data.width)}px`;
    canvas.width = Math.round(canvas.clientWidth * sharp);
    canvas.height = Math.round(canvas.clientHeight * sharp);
    const context = canvas.getContext("2d");
    const step = scale() * sharp;
    context.setTransform(step, 0, 0, step, -view.x * step, -view.y * step);
    context.imageSmoothingEnabled = scale() < 3;
    if (image.complete && image.naturalWidth) context.drawImage(image, 0, 0, data.width, data.height);
    const path = tool === "polygon" && pointer && points.length ? [...points, pointer] : points;
    const trace = () => {
      context.beginPath();
      path.forEach(([y, x], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    };
    context.lineJoin = context.lineCap = "round";
    if (tool === "brush") {
      context.strokeStyle = "rgba(255, 255, 255, 0.5)";
      context.lineWidth = Number(size.value);
      if (path.length === 1) path.push(path[0]);
      trace();
      context.stroke();
      if (pointer) {
        context.lineWidth = 1.5 / scale();
        context.strokeStyle = "white";
        context.beginPath();
        context.arc(pointer[1], pointer[0], Number(size.value) / 2, 0, 2 * Math.PI);
        context.stroke();
      }
      return;
    }
    for (const [colour, width] of [["black", 4], ["white", 2]]) {
      context.strokeStyle = context.fillStyle = colour;
      context.lineWidth = width / scale();
      trace();
      context.stroke();
      if (tool === "split") continue;
      for (const [y, x] of points) {
        context.beginPath();
        context.arc(x, y, (width + 1) / scale(), 0, 2 * Math.PI);
        context.fill();
      }
    }
  }

  function choose(name) {
    tool = name;
    points = [];
    for (const button of tools.querySelectorAll("button[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    }
    root.querySelector(".size").style.display = name === "brush" ? "" : "none";
    hint.textContent = `${TOOLS[name][1]} Shift and the wheel zoom, Shift and dragging move.`;
    draw();
  }

  function edit(kind, drawn) {
    last = Math.max(last, data.applied) + 1;
    pending.push({ number: last, kind, points: drawn, width: Number(size.value) });
    points = [];
    send([...pending]);
    draw();
  }

  function close() {
    if (tool === "polygon" && points.length > 2) edit("polygon", points);
  }

  for (const [name, [label]] of Object.entries(TOOLS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.tool = name;
    button.textContent = label;
    button.onclick = () => choose(name);
    tools.insertBefore(button, root.querySelector(".size"));
  }
  root.querySelector(".undo").onclick = () => edit("undo", []);
  size.oninput = draw;

  canvas.onpointerdown = (event) => {
    if (event.button !== 0) return;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const here = place(event);
    if (event.shiftKey) {
      dragged = here;
    } else if (tool === "delete") {
      edit("delete", [here]);
    } else if (tool === "merge") {
      points.push(here);
      if (points.length === 2) edit("merge", points);
    } else if (tool === "polygon") {
      const previous = points[points.length - 1];
      const apart = previous ? Math.hypot(here[0] - previous[0], here[1] - previous[1]) * scale() : Infinity;
      if (apart > 3) points.push(here); // the second press of a double-click adds no corner
    } else {
      drawing = true;
      points = [here];
    }
    draw();
  };
  canvas.onpointermove = (event) => {
    pointer = place(event);
    if (dragged) {
      view.y += dragged[0] - pointer[0];
      view.x += dragged[1] - pointer[1];
    } else if (drawing) {
      points.push(pointer);
    }
    draw();
  };
  canvas.onpointerup = () => {
    dragged = null;
    if (!drawing) return;
    drawing = false;
    if (tool === "brush" || points.length > 1) edit(tool, points);
    else points = [];
    draw();
  };
  canvas.onpointercancel = () => {
    dragged = null;
    drawing = false;
    points = [];
    draw();
  };
  canvas.onpointerleave = () => {
    pointer = null;
    draw();
  };
  canvas.ondblclick = close;
  canvas.onkeydown = (event) => {
    if (event.key === "Enter") close();
    else if (event.key === "Escape") points = [];
    else if (event.key === "z" && (event.ctrlKey || event.metaKey)) edit("undo", []);
    else return;
    event.preventDefault();
    draw();
  };
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.shiftKey) return;
      event.preventDefault();
      const [y, x] = place(event);
      const before = view.zoom;
      view.zoom = Math.min(MOST_ZOOM, Math.max(1, before * Math.exp(-(event.deltaY || event.deltaX) / 400)));
      view.y = y - ((y - view.y) * before) / view.zoom;
      view.x = x - ((x - view.x) * before) / view.zoom;
      if (view.zoom === 1) view.x = view.y = 0;
      draw();
    },
    { passive: false },
  );
  image.onload = draw;
  new ResizeObserver(draw).observe(root);
  choose(tool);

  return (given, setStateValue) => {
    data = given;
    pending = pending.filter((waiting) => waiting.number > data.applied);
    send = (edits) => setStateValue("edits", edits);
    root.querySelector(".undo").disabled = !data.edits && !pending.length;
    canvas.setAttribute("aria-label", data.title);
    canvas.dataset.applied = data.applied;
    if (image.src !== data.picture) image.src = data.picture;
    draw();
  };
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".correcting");
  root.update ??= begin(root);
  root.update(data, setStateValue);
}
