import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from sempre.errors import InputError
from sempre.training.run_folder import RunLog, open_run, read_log


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


def test_how_a_run_is_computed_may_change(tmp_path):
    @dataclass
    class Faster(Options):
        workers: int = 2

    open_run(tmp_path / "run", Faster())
    open_run(tmp_path / "run", Faster(workers=8), may_change=("workers",))
    with pytest.raises(InputError, match=r"other options \(rate"):
        open_run(tmp_path / "run", Faster(rate=0.3, workers=8), may_change=("workers",))


def test_a_run_refuses_other_micrographs(tmp_path):
    open_run(tmp_path / "run", Options(), data_fingerprint="a")
    open_run(tmp_path / "run", Options(), data_fingerprint="a")
    with pytest.raises(InputError, match="the micrographs have changed"):
        open_run(tmp_path / "run", Options(), data_fingerprint="b")


LOCKS = """
import sys, time
from sempre.errors import InputError
from sempre.training.run_folder import lock_run
try:
    lock_run(sys.argv[1])
    print("locked", flush=True)
    time.sleep(60)
except InputError as error:
    print(error, flush=True)
"""


@pytest.fixture
def locker(tmp_path):
    """Start a process that locks the folder as a Slurm job (none for ""); gives the process and its first line."""
    processes = []

    def start(job: str) -> tuple[subprocess.Popen, str]:
        environment = os.environ | {"SLURM_JOB_ID": job}
        command = [sys.executable, "-c", LOCKS, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_second_job_on_a_folder_is_refused_until_the_first_ends(locker):
    first = locker("17")
    assert first.stdout.readline() == "locked\n"
    refused = locker("18").stdout.readline()
    assert f"in use by job 17 process {first.pid} on {socket.gethostname()}" in refused
    first.kill()
    first.wait()
    assert locker("18").stdout.readline() == "locked\n"


def test_a_requeued_job_waits_for_its_former_self(locker):
    first = locker("17")
    assert first.stdout.readline() == "locked\n"
    second = locker("17")
    time.sleep(1)
    first.kill()
    assert second.stdout.readline() == "locked\n"


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
