"""Workers and Ctrl-C, which a terminal sends to all processes of a command."""

import errno
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from sempre.errors import InputError
from sempre.processes import batches_of, enough_shared_memory, in_order
from tests.warm import start_two_ranks

LOADER = """
import signal
import time

from torch.utils.data import DataLoader
from sempre.processes import batches_of

class Slow:
    def __len__(self):
        return 8
    def __getitem__(self, index):
        time.sleep(0.2)
        return index

if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *arguments: None)  # as a run that is not to end yet
    batches = batches_of(DataLoader(Slow(), 2, num_workers=1, multiprocessing_context="spawn"))
    print(sum(int(batch.sum()) for batch in batches))
"""


def interrupted(command: list[str]) -> tuple[int, str, str]:
    """Interrupt all processes of a command once the first of its workers is there: exit code, stdout and stderr.

    As in a terminal; but a shell lets what it starts in the background ignore Ctrl-C, these tests among it.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    main = psutil.Process(process.pid)

    def has_worker() -> bool:
        try:
            return any("spawn_main" in " ".join(child.cmdline()) for child in main.children())
        except psutil.Error:
            return False

    while process.poll() is None and not has_worker():
        time.sleep(0.002)
    time.sleep(1)  # it imports now, which is when it would print a traceback
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


def test_workers_of_a_loader_do_not_hear_of_an_interrupt_while_they_start(tmp_path):
    script = tmp_path / "load.py"
    script.write_text(LOADER)
    code, stdout, stderr = interrupted([sys.executable, str(script)])
    assert (code, stdout.strip()) == (0, "28"), stderr
    assert "Traceback" not in stderr


def test_an_early_interrupt_of_a_pool_prints_no_traceback(tmp_path):
    options = [f"out={tmp_path / 'set'}", "labelled=0", "unlabelled=40", "size=256", "workers=2"]
    code, _, stderr = interrupted([sys.executable, "data/synthesize.py", *options])
    assert code == 130
    assert "Traceback" not in stderr and stderr.rstrip().endswith("interrupted")


def test_interrupts_are_heard_again_afterwards():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # they are ignored in the background of a shell
    assert sum(map(int, batches_of(DataLoader(range(4), 1, num_workers=1)))) == 6
    assert list(in_order(divmod, [(7, 2), (9, 4)], 2)) == [(3, 1), (2, 1)]
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            time.sleep(1)
    finally:
        signal.signal(signal.SIGINT, before)


class Handed:
    """Samples of a loader whose workers hand them over as `fail` lets them."""

    def __init__(self, fail: BaseException | None = None):
        self.fail = fail

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if self.fail is not None:
            raise self.fail
        return {"image": torch.full((4,), index)}


def listed(items: list[dict]) -> dict[str, list]:
    return {"images": [item["image"] for item in items]}


def test_batches_are_in_shared_memory_before_they_leave_the_worker():
    loader = DataLoader(Handed(), 2, num_workers=1, collate_fn=listed)
    for _ in range(2):  # it is wrapped once
        (batch,) = batches_of(loader)
        assert [image.tolist() for image in batch["images"]] == [[0] * 4, [1] * 4]
        assert all(image.is_shared() for image in batch["images"])


@pytest.mark.parametrize(
    "fail",
    [
        RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"),
        RuntimeError(
            "DataLoader worker (pid 1) is killed by signal: Bus error. It is possible that ... shared memory."
        ),
    ],
)
def test_too_little_shared_memory_is_one_line_that_names_the_way_out(fail):
    with pytest.raises(InputError, match=r"shared memory.*workers=0.*--shm-size") as error:
        list(batches_of(DataLoader(Handed(fail), 2, num_workers=1)))
    assert "\n" not in str(error.value)


def test_a_pool_that_cannot_start_for_lack_of_shared_memory_names_the_way_out(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sempre.processes.ProcessPoolExecutor", full)
    with pytest.raises(InputError, match="workers=1"):
        list(in_order(divmod, [(7, 2)], 2))


@pytest.mark.parametrize("fail", [RuntimeError("a bug"), OSError(errno.ENOSPC, "No space left on device", "a.tif")])
def test_what_has_nothing_to_do_with_shared_memory_is_left_alone(fail):
    with pytest.raises(type(fail)), enough_shared_memory("workers=0"):
        raise fail


@pytest.mark.slow
def test_of_several_processes_that_are_started_one_computes(tmp_path):
    work = "lambda: print('computed', os.environ.get('WORLD_SIZE', 'alone'))"
    script = f"import os\nfrom sempre.processes import run_in_one_process\nrun_in_one_process({work})\n"
    (tmp_path / "work.py").write_text(script)
    finished = [rank.finish() for rank in start_two_ranks([sys.executable, str(tmp_path / "work.py")], tmp_path)]
    assert [rank.returncode for rank in finished] == [0, 0], [rank.stderr for rank in finished]
    assert "computed alone" in finished[0].stdout
    assert "one process" in finished[0].stdout and not finished[1].stdout
