import json

import pytest

from sempre.errors import InputError
from sempre.training.recipe_chain import Stages, last_step, seconds_a_step
from sempre.training.run_folder import open_run, set_aside_if_changed
from tests.training.test_run_folder import Options


@pytest.fixture
def root(tmp_path):
    """A script that writes its arguments and its threads to a file, and one that fails."""
    (tmp_path / "note.py").write_text(
        "import os, sys\n"
        "with open(sys.argv[1], 'a') as file:\n"
        "    print(*sys.argv[2:], os.environ.get('OMP_NUM_THREADS'), file=file)\n"
    )
    (tmp_path / "fail.py").write_text("raise SystemExit(3)\n")
    return tmp_path


def test_what_has_finished_is_not_done_again(root):
    for _ in range(2):
        stages = Stages(root / "stages.json", root)
        stages.run("note", "note.py", str(root / "a.txt"), "once")
        assert stages.once("number", lambda: 1) == 1
    assert len((root / "a.txt").read_text().splitlines()) == 1
    assert Stages(root / "stages.json", root).once("number", lambda: 2) == 1
    assert set(stages.seconds) == {"note"}


def test_a_stage_that_fails_is_named_and_done_again(root):
    stages = Stages(root / "stages.json", root)
    with pytest.raises(InputError, match="the stage 'both' ended with code 3"):
        stages.run_together("both", [["note.py", str(root / "b.txt")], ["fail.py"]])
    stages.run("both", "note.py", str(root / "c.txt"))
    assert (root / "c.txt").exists()


def test_stages_side_by_side_share_the_cores(root, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    files = [root / "d.txt", root / "e.txt"]
    Stages(root / "stages.json", root).run_together("both", [["note.py", str(file), "x"] for file in files])
    assert [file.read_text().strip() for file in files] == ["x 4", "x 4"]


def test_the_pace_of_a_training_is_that_of_its_second_half(tmp_path):
    lines = [
        {"kind": "train", "step": step, "time": time} for step, time in [(10, 30.0), (20, 40.0), (30, 41.0), (40, 42.0)]
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert seconds_a_step(tmp_path) == pytest.approx(0.1)
    assert last_step(tmp_path) == 40


def test_a_run_of_other_options_is_set_aside(tmp_path):
    folder = tmp_path / "demo"
    for rate in (0.1, 0.1, 0.2, 0.3):
        set_aside_if_changed(folder, Options(rate=rate))
        open_run(folder, Options(rate=rate))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "demo.1", "demo.2"]
