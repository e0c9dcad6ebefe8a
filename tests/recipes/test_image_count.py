"""Pretraining on a part of the images: parts are nested, and the validation split stays as it is."""

import pytest
from accelerate.state import AcceleratorState

from sempre.training.pretraining_run import PretrainingOptions, start_pretraining


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def begun(store, count: int):
    options = PretrainingOptions(name=f"n{count}", architecture="convnextv2_atto", store=str(store), image_count=count)
    return start_pretraining(options, lambda: None)


def test_fewer_images_are_a_part_of_more_and_validation_stays(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = begun(store, 0)
    parts = [begun(store, count) for count in range(1, len(whole.training) + 1)]
    assert [len(part.training) for part in parts] == list(range(1, len(whole.training) + 1))
    for fewer, more in zip(parts, [*parts[1:], whole], strict=True):
        assert set(fewer.training) <= set(more.training)
        assert fewer.validation.tolist() == whole.validation.tolist()
