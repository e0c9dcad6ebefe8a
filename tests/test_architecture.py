"""The rooms' imports go one way, and deployment needs no torch."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room may import only rooms that stand before it.
ROOMS = [
    "errors",
    "files",
    "locks",
    "processes",
    "released",
    "images",
    "metrics",
    "deploy",
    "ranges",
    "config",
    "data",
    "models",
    "pretraining",
    "training",
    "embeddings",
    "scan",
    "study",
    "report",
    "fuzzing",
    "napari",
    "app",
    "detectron2",
]
# The same within rooms that have rooms of their own; "" stands for the room's own files.
INNER = {
    "images": ["", "reading", "scale_bar", "synthetic"],
    "deploy": ["detections", "results", "networks", "batches", ""],
    "data": ["", "stores", "labels", "feeding"],
    "models": ["", "weights", "masked", "segmenters", "export"],
    "training": ["runs", "chains", "steps", ""],
    "embeddings": ["encoding", "insides", "scores", "segmentation", "refinement"],
    "scan": ["", "think", "act", "stages", "results"],
    "report": ["", "figures", "pages"],
    "app": ["parts", "views", ""],
}
# Names that other programs have known since before these rooms had rooms of their own; nothing here imports them.
ALIASES = {"sempre.models.packed", "sempre.deploy.segmenter"}
MOST_FILES = 12  # of a room; one with more wants rooms of its own
RECIPES = ["pretrain", "finetune", "evaluate", "data", "tools"]
MODULES = sorted((ROOT / "sempre").rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Full names of the modules a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write imports in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_rooms_import_only_what_stands_above(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    if len(parts) == 2 and parts[1] == "__init__":
        return
    own = ROOMS.index(parts[1])
    for name in imported(file):
        if name.startswith("sempre.") and room(name) in ROOMS:
            assert ROOMS.index(room(name)) <= own, f"{file} reaches up to {name}"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_inner_rooms_import_only_what_stands_above(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    if len(parts) < 3 or parts[1] not in INNER or parts[-1] == "__init__" or ".".join(parts) in ALIASES:
        return
    own = INNER[parts[1]].index(inner(parts))
    for name in imported(file):
        if name.startswith(f"sempre.{parts[1]}."):
            assert INNER[parts[1]].index(inner(name.split("."))) <= own, f"{file} reaches up to {name}"


def inner(parts: Sequence[str]) -> str:
    """The room within its room that `sempre`, room, perhaps inner room, module stand for."""
    return parts[2] if (ROOT / "sempre" / parts[1] / parts[2]).is_dir() else ""


def test_aliases_are_for_others():
    files = [*MODULES, *(file for folder in RECIPES for file in (ROOT / folder).glob("*.py"))]
    for file in files:
        assert not {name.rpartition(".")[0] for name in imported(file)} & ALIASES, f"{file} goes by an alias"


def test_no_room_is_crowded():
    for folder in {file.parent for file in MODULES}:
        names = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(names) <= MOST_FILES, f"{folder} has {len(names)} files: give it rooms of its own"


def test_detectron2_is_asked_for_by_its_own_room_and_recipe_alone():
    using = {
        file.relative_to(ROOT).as_posix()
        for file in [*MODULES, *(file for folder in RECIPES for file in (ROOT / folder).glob("*.py"))]
        for name in imported(file)
        if "detectron2" in name.split(".")[:2]
    }
    elsewhere = {file for file in using if not file.startswith("sempre/detectron2/")}
    assert using and elsewhere == {"finetune/detectron2_mask_rcnn.py"}


@pytest.mark.parametrize("folder", RECIPES)
def test_recipes_never_import_each_other(folder):
    for file in (ROOT / folder).glob("*.py"):
        tops = {name.split(".")[0] for name in imported(file)}
        assert not tops & ({*RECIPES, "tests"} - {"data"}), f"{file} imports a recipe"


def test_every_room_is_in_the_order():
    rooms = {file.relative_to(ROOT / "sempre").parts[0].removesuffix(".py") for file in MODULES} - {"__init__"}
    assert rooms == set(ROOMS)


def test_deployment_imports_without_torch_and_its_company():
    forbidden = ["torch", "torchvision", "timm", "lightly", "accelerate", "omegaconf", "onnx", "pycocotools"]
    code = (
        "import sempre.images, sempre.images.synthetic, sempre.metrics, sempre.deploy.command, sys\n"
        f"sys.exit(' '.join(set(sys.modules) & {set(forbidden)}) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("statement", ["import sempre", "from sempre.deploy.command import main; main(['--help'])"])
def test_help_and_the_package_itself_wait_for_no_library(statement):
    code = (
        "import sys; before = set(sys.modules)\n"
        f"try: {statement}\n"
        "except SystemExit: pass\n"
        "imported = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "sys.exit(' '.join(imported ^ {'sempre'}) or None)"
    )
    finished = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert finished.returncode == 0, f"{statement} imports {finished.stderr}"
