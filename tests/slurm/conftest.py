"""The cluster, and a place with a store of small micrographs to train in."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tifffile

from sempre.synthetic import render_field
from tests.slurm.cluster import ROOT, Cluster, missing_programs, running_cluster


@pytest.fixture(scope="session")
def cluster():
    """Two nodes, n1 and n2; skips where Slurm is not installed."""
    if missing := missing_programs():
        pytest.skip(f"{missing[0]} is not installed: apt-get install slurm-wlm munge")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path must be short
    try:
        with running_cluster(folder) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with `store.h5`: ten micrographs of 128x128 px, seven of them to train on."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "images").mkdir()
    for seed in range(10):
        tifffile.imwrite(folder / f"images/field_{seed}.tif", render_field(seed, (128, 128)).pixels)
    command = [sys.executable, ROOT / "data/prepare.py", "images=images", "store=store.h5", "workers=1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def pretrain(cluster: Cluster, place: Path):
    """`pretrain(recipe, name, *options, nodes=2)`: submits slurm/pretrain.sbatch and gives the job's number."""

    def submit(recipe: str, name: str, *options: str, nodes: int = 2) -> int:
        script = ROOT / "slurm/pretrain.sbatch"
        arguments = [ROOT / f"pretrain/{recipe}.py", f"store={place}/store.h5", *options, f"name={name}"]
        return cluster.submit("--nodes", nodes, script, *arguments, cwd=place)

    return submit
