import csv
import json
from pathlib import Path

import pytest

from sempre.errors import InputError
from sempre.training.sweeps import read_sweep, run_here, seeds_table, sweep_table
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
    with Path("runs/sizes_seeds.csv").open(newline="") as file:
        assert [(row["size"], row["arm"], row["runs"], row["aji_plus"]) for row in csv.DictReader(file)] == [
            ("atto", "random", "1", "0.75")
        ]


def test_the_command_runs_what_is_left_here_and_tells_how_that_ended(sizes, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(sweep_command, "run_here", lambda runs, root: asked.append((len(runs), root)) or 1)
    monkeypatch.setattr("sys.argv", ["sweep.py", f"sweep={sizes}", "here=true"])
    assert sweep_command.main() == 1
    assert asked == [(12, sweep_command.ROOT)]
    assert "0 of 12 runs have finished" in capsys.readouterr().out, "the table follows, however it ended"
    monkeypatch.setattr("sys.argv", ["sweep.py", f"sweep={sizes}"])
    assert sweep_command.main() == 0
    assert len(asked) == 1


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
        (
            "recipe: a.py\nvary: {seed: [1]}\nagainst: 2",
            "against: 2 must be a label of one thing that is varied, not of 0",
        ),
        ("recipe: a.py\nvary: {seed: [1], epochs: [1]}\nagainst: 1", "not of 2"),
        ("recipe: a.py\nvary: {seed: [1]}\nonce: b.py", "once must be a list of values, or labels"),
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


STARTS = """
recipe: job.py
options: {data: my_set}
vary:
  start: {random: {}, spark: {backbone: spark}}
  labels: [8, 30]
  seed: [0, 1]
against: random
once:
  watershed: {recipe: baseline.py, data: $data}
"""


def test_a_run_that_nothing_varies_is_the_last(tmp_path):
    (tmp_path / "starts.yaml").write_text(STARTS)
    *varied, watershed = read_sweep(tmp_path / "starts.yaml")
    assert watershed.command == ["baseline.py", "data=my_set", "name=starts/watershed"]
    assert (watershed.labels, watershed.against) == ({"start": "watershed"}, "")
    assert [run.against for run in varied] == [*4 * [""], *(run.name for run in varied[:4])]


def test_seeds_are_averaged_and_compared_where_both_have_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starts.yaml").write_text(STARTS)
    runs = read_sweep(tmp_path / "starts.yaml")
    scores = {
        "random-8-0": 0.4,
        "random-8-1": 0.5,
        "spark-8-0": 0.6,
        "spark-8-1": 0.9,
        "random-30-0": 0.5,
        "watershed": 0.5,
    }
    scores |= {"spark-30-0": 0.7, "spark-30-1": 0.9}
    for run in runs:
        if (score := scores.get(run.folder.name)) is not None:
            run.folder.mkdir(parents=True)
            (run.folder / "summary.json").write_text(json.dumps({"scores": {"aji_plus": {"mean": score, "std": 0.0}}}))
            (run.folder / "finished").touch()
    table = {(row["start"], row.get("labels")): row for row in seeds_table(runs, sweep_table(runs))}
    assert set(table) == {("random", "8"), ("spark", "8"), ("random", "30"), ("spark", "30"), ("watershed", None)}
    spark = table["spark", "8"]
    assert spark["aji_plus"] == pytest.approx(0.75)
    assert spark["sd"] == pytest.approx(0.3 / 2**0.5)
    assert spark["ERR %"] == pytest.approx(100 * (0.55 - 0.25) / 0.55)
    assert (spark["runs"], table["watershed", None]["runs"]) == (2, 1)
    assert "ERR %" not in table["spark", "30"], "seed 1 of the other has not finished"
    assert "ERR %" not in table["random", "8"]
    assert "sd" not in table["random", "30"]


def test_what_has_not_finished_runs_here_one_after_another(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "job.py").write_text(
        "import pathlib, sys\n"
        "name = next(word[5:] for word in sys.argv if word.startswith('name='))\n"
        "pathlib.Path('runs', name).mkdir(parents=True, exist_ok=True)\n"
        "with open('order', 'a') as order: order.write(name + '\\n')\n"
        "codes = pathlib.Path('codes')\n"
        "sys.exit(int(codes.read_text()) if codes.exists() and 'seed=1' in sys.argv else 0)\n"
    )
    (tmp_path / "seeds.yaml").write_text("recipe: job.py\nvary: {seed: [0, 1, 2]}")
    runs = read_sweep(tmp_path / "seeds.yaml")
    (tmp_path / "codes").write_text("75")
    assert run_here(runs, checkout) == 75, "a signal stops the sweep too"
    (tmp_path / "codes").write_text("2")
    assert run_here(runs, checkout) == 1
    assert "1 failed, see above: seeds/1" in capfd.readouterr().err
    assert [run.finished for run in runs] == [True, False, True]
    (tmp_path / "codes").unlink()
    assert run_here(runs, checkout) == 0
    assert (tmp_path / "order").read_text().split() == ["seeds/0", "seeds/1", "seeds/1", "seeds/2", "seeds/1"]


@pytest.mark.parametrize("file", sorted(Path("configs/sweeps").glob("*.yaml")), ids=lambda file: file.stem)
def test_data_given_from_outside_takes_the_place_of_the_files_own_in_every_run(file):
    option = "store" if file.stem == "pretraining" else "data"
    for value in ("/labels/of mine", "a$b", "runs/$size", "x=1,2"):
        before, after = read_sweep(file), read_sweep(file, [f"{option}={value}"])
        assert [run.name for run in after] == [run.name for run in before]
        for run in after:
            assert [word for word in run.command if word.startswith(f"{option}=")] == [f"{option}={value}"], run.name


@pytest.mark.parametrize("given", ["data", "=x", "recipe=finetune/dense.py", "seed=3", "arm=random"])
def test_what_a_sweep_varies_is_not_given_from_outside(sizes, given):
    with pytest.raises(InputError, match="cannot be given"):
        read_sweep(sizes, [given])
