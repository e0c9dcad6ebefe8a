"""What a built package holds."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tifffile

import sempre
from sempre.images import write_labels
from sempre.synthetic import render_field

ROOT = Path(__file__).parents[1]
PACKED = "sempre/**/*.py", "sempre/released/**/*.*", "sempre/**/*.schema.json", "sempre/app/*.js", "sempre/app/*.css"
# Of what is meant to be in a package.
SUFFIXES = {".py", ".pyi", ".onnx", ".safetensors", ".json", ".md", ".jpg", ".yaml", ".sh", ".sbatch", ".js", ".css"}


def source_of(file: Path) -> Path:
    """Where a file of a package stands in the repository: what belongs to the recipes is at its root."""
    parts = file.parts[2:] if file.parts[:2] == ("sempre", "recipes") and len(file.parts) > 3 else file.parts
    return ROOT.joinpath(*parts)


def test_a_package_holds_every_module_recipe_model_and_schema_and_nothing_stray(tmp_path):
    build = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wanted = {file for pattern in (*PACKED, "sempre/py.typed") for file in ROOT.glob(pattern) if file.suffix != ".pyc"}
    for folder in ("pretrain", "finetune", "evaluate", "data", "tools", "slurm"):
        wanted |= set((ROOT / folder).glob("*.py")) | set((ROOT / folder).glob("*.sbatch"))
    wanted |= set((ROOT / "configs").rglob("*.yaml"))
    assert any(file.suffix == ".safetensors" for file in wanted)
    built = {source_of(file.relative_to(tmp_path)) for file in (tmp_path / "sempre").rglob("*") if file.is_file()}
    lacking = wanted - built
    assert not lacking, f"a package should hold {lacking}"
    extra = {file for file in built if not file.is_file() or (file.suffix not in SUFFIXES and file.name != "py.typed")}
    assert not extra, f"a package should not hold {extra}"


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_fine_tunes_by_its_command(tmp_path):
    pytest.importorskip("torch")
    wheel = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w"]
    source = copy_of_repository(tmp_path / "source")
    subprocess.run([*wheel, str(tmp_path)], cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "site")
    render_set(tmp_path / "set", 3)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}

    def sempre_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sempre.deploy.command", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)

    few = ("architecture=unet_small", "crop=64", "crops_an_epoch=2", "batch=2", "epochs=1", "workers=0")
    run = sempre_command("finetune", "dense", "configs/dense/demo.yaml", "data=set", "name=tiny", *few)
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "runs/tiny/repeat-0/summary.json").read_text())["samples"]
    module = [sys.executable, "-m", "sempre.recipes.tools.report", "--help"]
    shown = subprocess.run(module, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert "options, as key=value" in shown


def copy_of_repository(folder: Path) -> Path:
    """What a package is built from, so that the build leaves nothing in the repository."""
    for name in ("sempre", "pretrain", "finetune", "evaluate", "data", "tools", "configs", "slurm"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def render_set(folder: Path, count: int) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for seed in range(count):
        field = render_field(seed, (96, 96))
        tifffile.imwrite(folder / f"images/{seed}.tif", field.pixels)
        write_labels(folder / f"labels/{seed}.tif", field.labels)


def test_the_package_and_the_module_have_one_version():
    run = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert run.stdout.split()[-1] == sempre.__version__
