"""The rooms' imports go one way, and deployment needs no torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room may import only rooms that stand before it.
ROOMS = [
    "errors",
    "recipes",
    "files",
    "locks",
    "processes",
    "released",
    "images",
    "synthetic",
    "metrics",
    "sizes",
    "segmentation",
    "deploy",
    "ranges",
    "config",
    "data",
    "models",
    "export",
    "pretraining",
    "training",
    "frozen",
    "scan",
    "study",
    "report",
    "napari",
    "app",
    "detectron2",
]
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


def test_rooms_import_only_what_stands_above():
    for file in MODULES:
        parts = file.relative_to(ROOT).with_suffix("").parts
        if len(parts) == 2 and parts[1] == "__init__":
            continue
        own = ROOMS.index(parts[1])
        for name in imported(file):
            if name.startswith("sempre.") and room(name) in ROOMS:
                assert ROOMS.index(room(name)) <= own, f"{file} reaches up to {name}"


def test_rooms_hold_files_and_no_further_rooms():
    deep = [str(file) for file in MODULES if len(file.relative_to(ROOT / "sempre").parts) > 2]
    assert not deep, f"{deep[0]} lies deeper than sempre/<room>/<file>.py"


def test_modules_import_each_other_one_way():
    """A module that is imported first is whole before the one that imports it goes on."""
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in MODULES}
    graph = {name: top_level(file) & names.keys() for name, file in names.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


def top_level(file: Path) -> set[str]:
    """Full names of the modules that a file imports as it is imported itself."""
    imports = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {str(node.module) for node in imports} | {f"{node.module}.{a.name}" for node in imports for a in node.names}


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
    for file in set((ROOT / folder).glob("*.py")) - {ROOT / "tools/fuzz.py"}:  # whose cases stand beside the tests
        tops = {name.split(".")[0] for name in imported(file)}
        assert not tops & ({*RECIPES, "tests"} - {"data"}), f"{file} imports a recipe"


def test_every_room_is_in_the_order():
    rooms = {file.relative_to(ROOT / "sempre").parts[0].removesuffix(".py") for file in MODULES} - {"__init__"}
    assert rooms == set(ROOMS)


def test_the_picture_of_the_rooms_is_drawn_from_their_imports(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    rooms = import_module("rooms")
    imports = rooms.imports_of_rooms()
    assert imports.keys() == set(ROOMS)
    drawn = rooms.reduced(imports)
    assert all(rooms.all_below(room, drawn) == rooms.all_below(room, imports) for room in ROOMS)
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert rooms.with_picture(page) == page, "draw it anew: python docs/rooms.py"


def test_deployment_imports_without_torch_and_its_company():
    forbidden = ["torch", "torchvision", "timm", "lightly", "accelerate", "omegaconf", "onnx", "pycocotools"]
    code = (
        "import sempre.images, sempre.synthetic, sempre.metrics, sempre.deploy.command, sys\n"
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
