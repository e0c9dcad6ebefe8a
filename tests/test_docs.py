"""The pages of docs/ as a site: whole, and no link leads nowhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(project: Path, site: Path) -> subprocess.CompletedProcess:
    """What `make docs` does; under --quiet MkDocs would not count its warnings."""
    pytest.importorskip("material", reason="the extra docs is not installed")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=project,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_link_of_the_pages_leads_somewhere(tmp_path):
    built = build(ROOT, tmp_path)
    assert built.returncode == 0, built.stderr
    first = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="deployment.html"' in first and 'href="repository/data/index.html"' in first
    assert (tmp_path / "repository/sempre/training/cost_model.py").is_file()  # linked by docs/scaling.md
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//', text), f"{page} asks a server"


def test_broken_links_fail(tmp_path):
    project = tmp_path / "project"
    for name in ("docs", "data", "sempre/released", "sempre/scan", "sempre/training"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("*.onnx", "weights", "__pycache__"))
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, project / name)
    page = project / "docs/scaling.md"
    broken = ("../data/gone.md", "gone.md", "scan.md#gone")
    page.write_text(
        page.read_text(encoding="utf-8") + "".join(f"[gone]({link})\n" for link in broken), encoding="utf-8"
    )
    built = build(project, tmp_path / "site")
    assert built.returncode != 0
    assert not [link for link in broken if f"'{link}'" not in built.stderr], built.stderr
