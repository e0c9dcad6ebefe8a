"""Write a bundle: its graph, and `model.json` beside it."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import sempre


def write_bundle(out: str | Path, export: Callable[[Path], None], description: dict) -> None:
    """Export a graph into the folder `out` with a `description` of it; a kill leaves the old bundle, none, or the new.

    Args:
        export: writes the graph to the path given, and raises if it is not faithful.
        description: the fields of `model.json` but for the format, the checksum and the version.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as partial:
        graph = Path(partial) / "model.onnx"
        export(graph)
        checksum = hashlib.sha256(graph.read_bytes()).hexdigest()
        fields = {"format": 1, "sha256": checksum, **description, "sempre_version": sempre.__version__}
        graph.with_suffix(".json").write_text(json.dumps(fields, indent=1), encoding="utf-8")
        # Without its model.json a folder is no bundle.
        out.mkdir(exist_ok=True)
        (out / "model.json").unlink(missing_ok=True)
        for name in ("model.onnx", "model.json"):
            (Path(partial) / name).replace(out / name)
