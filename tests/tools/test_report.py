"""From the runs of a recipe to the page that shows them."""

import json
import subprocess
from pathlib import Path

import pytest
import tifffile

from sempre.images import write_labels
from sempre.synthetic import render_field
from tests.in_process import run_here

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    return run_here(script, *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory) -> Path:
    """A folder with a labelled `set` and the watershed's runs of it, `runs/smooth` and `runs/plain`."""
    folder = tmp_path_factory.mktemp("two_runs")
    for side in ("images", "labels"):
        (folder / "set" / side).mkdir(parents=True)
    for seed in (0, 2, 5):
        field = render_field(seed, (160, 160))
        tifffile.imwrite(folder / f"set/images/field_{seed}.tif", field.pixels)
        write_labels(folder / f"set/labels/field_{seed}.tif", field.labels)
    split = {"train": ["field_0"], "validation": ["field_2", "field_5"]}
    (folder / "split.json").write_text(json.dumps(split))
    for name, smoothing in (("smooth", 3.0), ("plain", 0.5)):
        options = ["data=set", "split_file=split.json", f"name={name}", f"smoothing={smoothing}"]
        finished = run("evaluate/watershed.py", *options, cwd=folder)
        assert finished.returncode == 0, finished.stderr
    return folder


def test_one_run_and_two_are_shown(two_runs):
    finished = run("tools/report.py", "runs=[runs/plain]", "data=set", cwd=two_runs)
    assert finished.returncode == 0, finished.stderr
    page = (two_runs / "report.html").read_text()
    assert page.count("<figcaption>plain: AJI+ ") == 2
    options = ["runs=[runs/smooth,runs/plain]", "names=[blurred,sharp]", "data=set", "out=both.html"]
    finished = run("tools/report.py", *options, cwd=two_runs)
    assert finished.returncode == 0, finished.stderr
    page = (two_runs / "both.html").read_text()
    scores = json.loads((two_runs / "runs/smooth/summary.json").read_text())["scores"]
    assert f"{scores['aji_plus']['mean']:.3f}" in page
    assert page.count("<figcaption>blurred: AJI+ ") == page.count("<figcaption>sharp: AJI+ ") == 2
    assert "field_2" in page and "field_5" in page and "field_0" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give the folders of finished runs"),
        (["runs=[runs/plain,runs/plain]"], "two runs have the same name"),
        (["runs=[runs/plain]", "names=[a,b]"], "give one each"),
        (["runs=[runs/none]"], "runs/none has no summary.json"),
    ],
)
def test_what_is_amiss_is_said_in_one_line(two_runs, options, message):
    finished = run("tools/report.py", "data=set", *options, cwd=two_runs)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
