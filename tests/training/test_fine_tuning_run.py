import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image
from torch.utils.data import Dataset

from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.files import write_json
from sempre.training.accelerator import make_accelerator
from sempre.training.fine_tuning_run import crop_loader, start_fine_tuning
from sempre.training.scoring import Prediction, predict_and_score


@dataclass
class Options:
    data: str
    name: str = "arm"
    split_file: str = ""
    validation_fraction: float = 0.4
    test_fraction: float = 0.0
    split_seed: int = 0
    groups: str = ""
    repeats: int = 3
    seed: int = 5
    rate: float = 0.1
    workers: int = 0
    precision: str = "float32"


@pytest.fixture
def options(tmp_path, monkeypatch) -> Options:
    """Of a set of ten micrographs of 16x16 px with a particle each."""
    AcceleratorState._reset_state(reset_partial_state=True)
    labels = np.zeros((16, 16), np.uint8)
    labels[4:12, 4:12] = 1
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for number in range(10):
        Image.fromarray(100 * labels + number).save(tmp_path / f"set/images/{number}.png")
        Image.fromarray(labels).save(tmp_path / f"set/labels/{number}.png")
    monkeypatch.chdir(tmp_path)
    return Options("set")


def score(labelled: LabelledSet, held_out: np.ndarray, folder, seed: int) -> None:
    """The perfect prediction by seed 5, nothing by others."""
    write_json(
        folder / "summary.json",
        predict_and_score(
            labelled,
            held_out,
            lambda _, index: Prediction(labelled.read(index).layers[0] * (seed == 5)),
            folder / "predictions",
        ),
    )


def test_each_repeat_is_done_once_and_the_run_says_what_they_come_to(options, capsys):
    run = start_fine_tuning(options, (1.0, 99.0))
    assert run.labelled.percentiles == (1.0, 99.0)
    done = []
    for seed, folder in run.unfinished_repeats():
        done.append((seed, folder.name))
        score(run.labelled, run.splits.held_out, folder, seed)
        if seed == 6:
            break
    assert done == [(5, "repeat-0"), (6, "repeat-1")]

    run = start_fine_tuning(replace(options, workers=4), (1.0, 99.0))
    (last,) = run.unfinished_repeats()
    assert (last[0], last[1].name) == (7, "repeat-2")
    score(run.labelled, run.splits.held_out, last[1], last[0])
    assert not list(run.unfinished_repeats())
    run.finish()
    summary = json.loads((run.folder / "summary.json").read_text())
    assert [repeat["summary"]["aji_plus"] for repeat in summary["repeats"]] == [1.0, 0.0, 0.0]
    assert capsys.readouterr().out == f"AJI+ 0.333 ± 0.577 on {len(run.splits.held_out)} micrographs\n"


def test_a_run_of_other_options_or_with_nothing_held_out_is_refused(options):
    start_fine_tuning(options, (1.0, 99.0))
    with pytest.raises(InputError, match="other options"):
        start_fine_tuning(replace(options, rate=0.2), (1.0, 99.0))
    with pytest.raises(InputError, match="no micrograph of set is held out"):
        start_fine_tuning(replace(options, name="nothing", validation_fraction=0.0), (1.0, 99.0))


def change_labels(folder):
    labels = np.zeros((16, 16), np.uint8)
    labels[2:9, 4:12] = 1
    Image.fromarray(labels).save(folder / "set/labels/3.png")


def change_pixels(folder):
    Image.fromarray(np.eye(16, dtype=np.uint8) * 9).save(folder / "set/images/3.png")


def move_one(folder):
    (folder / "split.csv").write_text("".join(f"{n},{'train' if n < 3 else 'validation'}\n" for n in range(10)))


def take_one_away(folder):
    (folder / "split.csv").write_text("".join(f"{n},{'train' if n < 4 else 'validation'}\n" for n in range(9)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (change_labels, "the labels of 3 changed since runs/arm was begun"),
        (change_pixels, "the pixels of 3 changed since"),
        (move_one, "the side of 3 changed since"),
        (take_one_away, "the list of micrographs, 9 in it before, changed since"),
    ],
)
def test_a_run_is_not_gone_on_with_under_other_data(options, change, complaint, tmp_path):
    rows = [f"{number},{'train' if number < 4 else 'validation'}\n" for number in range(10)]
    (tmp_path / "split.csv").write_text("".join(rows))
    options = replace(options, split_file="split.csv")
    start_fine_tuning(options, (1.0, 99.0))
    start_fine_tuning(options, (1.0, 99.0))
    change(tmp_path)
    with pytest.raises(InputError, match=complaint):
        start_fine_tuning(options, (1.0, 99.0))


def test_of_an_export_the_annotations_of_a_micrograph_are_its_labels(options, tmp_path):
    """Written anew in another order the run goes on; with another outline it does not."""
    (tmp_path / "set/labels").rename(tmp_path / "set/old")
    square = [[4, 4, 12, 4, 12, 12, 4, 12]]
    images = [{"id": n, "file_name": f"{n}.png", "height": 16, "width": 16} for n in range(10)]
    annotations = [{"id": n, "image_id": n, "segmentation": square} for n in range(10)]
    file = tmp_path / "set/annotations.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    start_fine_tuning(options, (1.0, 99.0))
    file.write_text(json.dumps({"annotations": annotations[::-1], "images": images[::-1]}, indent=1))
    start_fine_tuning(options, (1.0, 99.0))
    annotations[7] = {**annotations[7], "segmentation": [[2, 2, 12, 2, 12, 12]]}
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    with pytest.raises(InputError, match="the labels of 7 changed since"):
        start_fine_tuning(options, (1.0, 99.0))


def test_a_training_side_without_a_particle_is_told_before_the_run_begins(options, tmp_path, capsys):
    blank = np.zeros((16, 16), np.uint8)
    for number in range(4):
        Image.fromarray(blank).save(tmp_path / f"set/labels/{number}.png")
    rows = [f"{number},{'train' if number < 4 else 'validation'}\n" for number in range(10)]
    (tmp_path / "split.csv").write_text("".join(rows))
    with pytest.raises(InputError, match="none of the 4 micrographs of set to train on shows a particle"):
        start_fine_tuning(replace(options, split_file="split.csv"), (1.0, 99.0))
    assert not (tmp_path / "runs").exists()
    rows = [f"{number},{'train' if number >= 4 else 'validation'}\n" for number in range(10)]
    (tmp_path / "split.csv").write_text("".join(rows))
    run = start_fine_tuning(replace(options, split_file="split.csv"), (1.0, 99.0))
    assert "none of the 4 micrographs of set to be scored shows a particle" in capsys.readouterr().err
    with pytest.raises(InputError, match="none of the 2 micrographs that are drawn"):
        run.check_fitted(np.array([0, 1]))


def test_crops_come_in_an_order_of_the_seed(options):
    class Keys(Dataset):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, key: tuple[int, int]) -> dict[str, int]:
            return {"epoch": key[0], "sample": key[1]}

    accelerator = make_accelerator("float32")
    samples = {
        seed: [batch["sample"].tolist() for batch in crop_loader(Keys(), 4, seed, 0, accelerator)] for seed in (0, 1)
    }
    assert sorted(sample for batch in samples[0] for sample in batch) == list(range(12))
    assert samples[0] != samples[1]
    collated = crop_loader(Keys(), 4, 0, 0, accelerator, collate=lambda items: {"count": len(items)})
    assert [batch["count"] for batch in collated] == [4, 4, 4]
