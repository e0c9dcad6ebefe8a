"""What a built package holds."""

import subprocess
import sys
from pathlib import Path

import sempre

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".onnx", ".safetensors", ".json", ".md", ".jpg", ".yaml"}  # of what is meant to be in a package


def test_a_package_holds_every_module_the_released_models_and_the_schemas_and_nothing_stray(tmp_path):
    build = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wanted = {
        file.relative_to(ROOT)
        for pattern in ("**/*.py", "released/**/*.*", "**/*.schema.json")
        for file in (ROOT / "sempre").glob(pattern)
        if file.suffix != ".pyc"
    }
    assert any(file.suffix == ".safetensors" for file in wanted)
    lacking = {file for file in wanted if not (tmp_path / file).exists()}
    assert not lacking, f"a package should hold {lacking}"
    built = [file.relative_to(tmp_path) for file in (tmp_path / "sempre").rglob("*") if file.is_file()]
    extra = {file for file in built if not (ROOT / file).is_file() or file.suffix not in SUFFIXES}
    assert not extra, f"a package should not hold {extra}"


def test_the_package_and_the_module_have_one_version():
    run = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert run.stdout.split()[-1] == sempre.__version__
