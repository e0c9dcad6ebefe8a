"""Write a bundle: its graph, `model.json` beside it, and what of the weights exceeds the graph's own file."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

import sempre
from sempre.deploy.bundle import DATA
from sempre.files import code_commit, file_sha256


def write_bundle(out: str | Path, export: Callable[[Path], None], description: dict) -> None:
    """Export a graph into the folder `out` with a `description` of it; a kill leaves the old bundle, none, or the new.

    Protobuf's files end at 2 GB. What PyTorch's exporter keeps beside a larger graph, a file for each tensor, becomes
    one file of the bundle, `model.onnx.data`, with a checksum of its own in `model.json`.

    Args:
        export: writes the graph to the path given, and raises if it is not faithful.
        description: the fields of `model.json` but for the format, the checksums, version and commit.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as partial:
        graph = Path(partial) / "graph/model.onnx"
        graph.parent.mkdir()
        export(graph)
        made = Path(partial) / "bundle"
        made.mkdir()
        names = gather(graph, made)
        fields = {"format": 1, "sha256": file_sha256(made / "model.onnx"), **description}
        if DATA in names:
            fields["data_sha256"] = file_sha256(made / DATA)
        fields |= {"sempre_version": sempre.__version__, "sempre_commit": code_commit()}
        (made / "model.json").write_text(json.dumps(fields, indent=1), encoding="utf-8")
        # Without its model.json a folder is no bundle.
        out.mkdir(exist_ok=True)
        for name in ("model.json", DATA):
            (out / name).unlink(missing_ok=True)
        for name in (*names, "model.json"):
            (made / name).replace(out / name)


def gather(graph: Path, folder: Path) -> list[str]:
    """Move an ONNX graph into `folder`, and what it keeps in files beside it into one file there; the files' names.

    The weights are copied file by file, so that this takes no memory.
    """
    model = onnx.load(graph, load_external_data=False)
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if not outside:
        graph.replace(folder / graph.name)
        return [graph.name]
    with (folder / DATA).open("wb") as data:
        for tensor in outside:
            place = {entry.key: entry.value for entry in tensor.external_data}
            begin = data.tell()
            with (graph.parent / place["location"]).open("rb") as file:
                file.seek(int(place.get("offset", 0)))
                if "length" in place:
                    data.write(file.read(int(place["length"])))
                else:
                    shutil.copyfileobj(file, data)
            del tensor.external_data[:]
            for key, value in (("location", DATA), ("offset", begin), ("length", data.tell() - begin)):
                tensor.external_data.add(key=key, value=str(value))
    onnx.save(model, folder / graph.name)
    return [graph.name, DATA]
