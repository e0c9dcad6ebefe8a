from dataclasses import dataclass

import pytest

from sempre.errors import InputError
from sempre.training.logging import RunLog, read_log
from sempre.training.run_folder import open_run


@dataclass
class Options:
    rate: float = 0.1
    name: str = "run"


def test_a_run_goes_on_under_the_same_options_and_refuses_others(tmp_path):
    folder = open_run(tmp_path / "run", Options())
    assert (folder / "config.yaml").read_text() == "rate: 0.1\nname: run\n"
    assert open_run(tmp_path / "run", Options()) == folder
    with pytest.raises(InputError, match=r"other options \(rate: 0\.1 -> 0\.2\): give this one another name"):
        open_run(tmp_path / "run", Options(rate=0.2))


def test_a_resumed_log_drops_the_lines_that_are_repeated(tmp_path):
    log = RunLog(tmp_path, step=0, total_steps=3)
    for step in (1, 2, 3):
        log.write(step, "train", loss=1 / step)
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "kind": "tr')  # cut short by a kill
    log = RunLog(tmp_path, step=2, total_steps=3)
    log.write(3, "train", loss=0.25)
    log.close()
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path / "log.jsonl")] == [
        (1, 1.0),
        (2, 0.5),
        (3, 0.25),
    ]
