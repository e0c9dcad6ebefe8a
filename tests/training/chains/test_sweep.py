import csv
import json
from pathlib import Path

import pytest

from sempre.errors import InputError
from sempre.training.chains.sweep import read_sweep, sweep_table
from tools import sweep as sweep_command

SWEEP = """
recipe: finetune/mask_rcnn.py
config: configs/mask_rcnn/gpu.yaml
options: {data: my_set, epochs: 5, scale_range: [0.8, 1.2]}
vary:
  size:
    atto: {architecture: convnextv2_atto}
    pico: {architecture: convnextv2_pico}
  arm:
    random: {backbone: none}
    fcmae: {backbone: runs/fcmae_$size/backbone, epochs: 3}
  seed: [0, 1, 2]
"""


@pytest.fixture
def sizes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sizes.yaml").write_text(SWEEP)
    return tmp_path / "sizes.yaml"


def test_every_combination_is_one_run(sizes):
    runs = read_sweep(sizes)
    assert len(runs) == 2 * 2 * 3
    assert len({run.name for run in runs}) == len(runs)
    last = runs[-1]
    assert last.labels == {"size": "pico", "arm": "fcmae", "seed": "2"}
    assert last.command == [
        "finetune/mask_rcnn.py",
        "configs/mask_rcnn/gpu.yaml",
        "data=my_set",
        "epochs=3",
        "scale_range=[0.8, 1.2]",
        "architecture=convnextv2_pico",
        "backbone=runs/fcmae_pico/backbone",
        "seed=2",
        "name=sizes/pico-fcmae-2",
    ]


def test_the_table_lists_all_runs_whatever_has_become_of_them(sizes, monkeypatch, capsys):
    runs = read_sweep(sizes)
    for run in runs[:2]:
        run.folder.mkdir(parents=True)
        losses = [{"step": step, "kind": "validation", "loss": 1 / step} for step in (4, 2)]
        (run.folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in losses))
    (runs[0].folder / "finished").touch()
    summary = {
        "scores": {"aji_plus": {"mean": 0.75, "std": 0.01}},
        "groups": {"low": {"aji_plus": {"mean": 0.8, "std": 0.01}}, "high": {"aji_plus": {"mean": 0.7, "std": 0.01}}},
        "repeats": [{"initial_weights": "convnextv2_atto.fcmae_ft_in1k"}],
    }
    (runs[0].folder / "summary.json").write_text(json.dumps(summary))

    rows = sweep_table(runs)
    assert [row["state"] for row in rows] == ["finished", "unfinished"] + 10 * ["not started"]
    assert rows[0]["aji_plus"] == 0.75
    assert (rows[0]["aji_plus low"], rows[0]["aji_plus high"]) == (0.8, 0.7)
    assert rows[0]["initial_weights"] == "convnextv2_atto.fcmae_ft_in1k"
    assert (rows[1]["validation_loss"], rows[1]["lowest_validation_loss"], rows[1]["steps"]) == (0.5, 0.25, 2)

    monkeypatch.setattr("sys.argv", ["sweep.py", f"sweep={sizes}"])
    sweep_command.main()
    printed = capsys.readouterr().out
    assert "1 of 12 runs have finished" in printed
    assert f"sbatch --array=0-11 slurm/sweep.sbatch {sizes}" in printed
    with Path("runs/sizes.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table] == [run.name for run in runs]
    assert table[0]["aji_plus"] == "0.75"
    assert table[2]["validation_loss"] == ""


def test_a_task_is_told_its_command_until_it_has_finished(sizes, monkeypatch, capsys):
    run = read_sweep(sizes)[4]
    monkeypatch.setattr("sys.argv", ["sweep.py", f"sweep={sizes}", "run=4"])
    sweep_command.main()
    assert capsys.readouterr().out.splitlines() == run.command
    run.folder.mkdir(parents=True)
    (run.folder / "finished").touch()
    sweep_command.main()
    assert capsys.readouterr().out.strip() == ""
    monkeypatch.setattr("sys.argv", ["sweep.py", f"sweep={sizes}", "run=12"])
    with pytest.raises(InputError, match=r"has 12 runs, use --array=0-11"):
        sweep_command.main()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: a.py", "must name a `recipe` and what to `vary`"),
        ("recipe: a.py\nvary: {seed: 3}", "vary.seed must be a list of values"),
        ("recipe: a.py\nvary: {seed: [1]}\nrepeat: 3", "'repeat' is unknown"),
        ("recipe: a.py\nvary: {seed: [1, 1.0, '1']}", None),
        ("recipe: a.py\nvary: {path: [a/b, a b]}", "two runs would be named bad/a_b"),
        ("recipe: a.py\nvary: {backbone: [runs/$size]}", "names a label that is not varied"),
        ("recipe: [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    if message is None:
        assert len(read_sweep(tmp_path / "bad.yaml")) == 2  # values written alike are one
    else:
        with pytest.raises(InputError, match=message):
            read_sweep(tmp_path / "bad.yaml")


def test_a_label_may_stand_for_another_recipe(tmp_path):
    path = tmp_path / "methods.yaml"
    path.write_text(
        "recipe: finetune/dense.py\n"
        "config: configs/dense/demo.yaml\n"
        "vary:\n"
        "  method:\n"
        "    dense: {epochs: 2}\n"
        "    mask_rcnn: {recipe: finetune/mask_rcnn.py, config: null, epochs: 3}\n"
    )
    dense, mask_rcnn = read_sweep(path)
    assert dense.command == ["finetune/dense.py", "configs/dense/demo.yaml", "epochs=2", "name=methods/dense"]
    assert mask_rcnn.command == ["finetune/mask_rcnn.py", "epochs=3", "name=methods/mask_rcnn"]
