from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sempre.data.folds import FoldOptions, divide, fitted_and_choosing, make_folds, parts_of_training
from sempre.data.labelled import LabelledSet
from sempre.data.splits import make_splits
from sempre.errors import InputError


@pytest.fixture
def labelled(tmp_path):
    """Thirty micrographs of 8x8 px, ten of each of three samples."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    random = np.random.default_rng(0)
    for number in range(30):
        for folder in ("images", "labels"):
            pixels = random.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{'abc'[number % 3]}_{number:02}.png")
    return LabelledSet(tmp_path)


@pytest.fixture
def options(labelled):
    return FoldOptions(data=str(labelled.folder), validation_fraction=0.3)


def test_each_sample_is_left_out_once_and_never_trained_on(labelled, options):
    options.protocol = "leave_one_sample_out"
    folds = make_folds(labelled, options)
    assert [fold.name for fold in folds] == ["a", "b", "c"]
    for fold in folds:
        assert sorted(fold.fitted + fold.stopping + fold.held_out) == list(range(30))
        assert {labelled.names[index][0] for index in fold.held_out} == {fold.name}
        assert len(fold.held_out) == 10
    assert len(make_folds(labelled, replace(options, folds=2))) == 2
    with pytest.raises(InputError, match=r"all 30 micrographs .* show the sample _"):
        make_folds(labelled, replace(options, sample_pattern="_"))


def test_a_smaller_labelled_share_is_part_of_a_larger_one(labelled, options):
    parts = {}
    for share in (0.2, 0.5, 1.0):
        (fold,) = make_folds(labelled, replace(options, label_share=share))
        parts[share] = set(fold.fitted), set(fold.stopping), set(fold.held_out)
        assert not parts[share][0] & parts[share][1]
        assert not (parts[share][0] | parts[share][1]) & parts[share][2]
    for smaller, larger in ((0.2, 0.5), (0.5, 1.0)):
        assert parts[smaller][0] < parts[larger][0]
        assert parts[smaller][1] <= parts[larger][1]
        assert parts[smaller][2] == parts[larger][2]
    used = len(parts[1.0][0] | parts[1.0][1])
    assert used + len(parts[1.0][2]) == 30
    assert len(parts[0.5][0] | parts[0.5][1]) == round(used / 2)


def test_a_set_is_divided_as_the_options_say_and_something_is_held_out(labelled, options):
    splits = divide(labelled, replace(options, split_seed=3, test_fraction=0.2))
    expected = labelled.splits(0.3, 3, test_fraction=0.2)
    for split in ("training", "choosing", "held_out"):
        np.testing.assert_array_equal(getattr(splits, split), getattr(expected, split))
    with pytest.raises(InputError, match=r"no micrograph of .* is held out: raise validation_fraction or add images"):
        divide(labelled, replace(options, validation_fraction=0.0))


def test_what_cannot_be(labelled, options, tmp_path):
    with pytest.raises(InputError, match="protocol=bootstrap is unknown"):
        make_folds(labelled, replace(options, protocol="bootstrap"))
    with pytest.raises(InputError, match="label_share=0 is out of range"):
        make_folds(labelled, replace(options, label_share=0.0))
    split_file = tmp_path / "split.csv"
    split_file.write_text("a_00,train\nb_01,validation\n")
    with pytest.raises(InputError, match="the training split has 1 micrographs: two are the least"):
        make_folds(labelled, replace(options, split_file=str(split_file)))


def test_thresholds_are_chosen_on_micrographs_that_were_not_trained_on():
    training = np.arange(100, 140)
    fitted, choosing = parts_of_training(training, 0, seed=0)
    assert set(fitted) | set(choosing) == set(training) and not set(fitted) & set(choosing)
    assert len(choosing) == 4
    fitted, choosing = parts_of_training(training, 8, seed=0)
    assert len(fitted) == 8 and not len(choosing)
    assert set(parts_of_training(training, 8, seed=1)[0]) != set(fitted)


def test_with_a_test_side_validation_chooses_and_all_training_micrographs_are_fitted_to(labelled, options, tmp_path):
    split_file = tmp_path / "split.csv"
    splits = {"train": range(20), "validation": range(20, 25), "test": range(25, 30)}
    split_file.write_text("".join(f"{labelled.names[i]},{split}\n" for split, rows in splits.items() for i in rows))
    (fold,) = make_folds(labelled, replace(options, split_file=str(split_file)))
    assert (fold.name, sorted(fold.fitted)) == ("test", list(splits["train"]))
    assert (fold.stopping, fold.held_out) == (list(splits["validation"]), list(splits["test"]))
    training, choosing = np.arange(40), np.arange(40, 45)
    for count in (0, 8):
        fitted, chosen_on = parts_of_training(training, count, seed=0, choosing=choosing)
        assert len(fitted) == (count or 40) and list(chosen_on) == list(choosing)


def test_a_test_share_is_scored_and_validation_then_chooses(labelled, options):
    (two,) = make_folds(labelled, options)
    (three,) = make_folds(labelled, replace(options, test_fraction=0.3, validation_fraction=0.2))
    assert (two.name, three.name) == ("validation", "test")
    assert three.held_out == two.held_out
    assert three.stopping
    assert sorted(three.fitted + three.stopping + three.held_out) == list(range(30))


def test_the_threshold_is_chosen_on_training_micrographs_that_were_not_trained_on():
    training = np.arange(100, 140)
    fitted, choosing = fitted_and_choosing(make_splits({"train": training}), 0, 0, chosen=False)
    assert len(choosing) == 4 and set(fitted) | set(choosing) == set(training) and not set(fitted) & set(choosing)
    few = make_splits({"train": training[:19]})  # too few to hold any back
    assert [list(split) for split in fitted_and_choosing(few, 0, 0, chosen=False)] == [list(training[:19])] * 2
    fitted, _ = fitted_and_choosing(make_splits({"train": training}), 0, 0, chosen=True)  # nothing is to be chosen
    assert list(fitted) == list(training)


def test_repeats_on_a_few_labels_use_others_each():
    splits = make_splits({"train": np.arange(100, 140)})
    (fitted, choosing), (others, _) = (fitted_and_choosing(splits, 8, seed, chosen=False) for seed in (0, 1))
    assert len(fitted) == len(others) == 8 and set(fitted) <= set(splits.training)
    assert list(fitted) == list(choosing), "too few to hold any back"
    assert set(fitted) != set(others)


@pytest.mark.parametrize("count", [2, 5, 10])
def test_exactly_so_many_are_fitted_and_none_is_held_back(labelled, options, count):
    options = replace(options, label_count=count, stopping="none")
    (fold,) = make_folds(labelled, options)
    assert len(set(fold.fitted)) == count and fold.stopping == []
    assert fold.held_out == make_folds(labelled, replace(options, label_count=0))[0].held_out
    assert not set(fold.fitted) & set(fold.held_out)
    assert set(fold.fitted) <= set(make_folds(labelled, replace(options, label_count=12))[0].fitted)


def test_what_is_held_out_stops_the_training_when_asked(labelled, options):
    options = replace(options, protocol="leave_one_sample_out", stopping="held_out")
    for fold in make_folds(labelled, options):
        assert fold.stopping == fold.held_out and len(fold.fitted) == 20


def test_more_labels_than_there_are_to_train_on_are_refused(labelled, options):
    with pytest.raises(InputError, match=r"label_count=28 is more than the \d+ training micrographs"):
        make_folds(labelled, replace(options, label_count=28))
