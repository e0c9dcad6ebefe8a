"""Damaged HDF5 files that its library computes over without end, or that end the process."""

import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import tifffile
from torch.utils.data import DataLoader

from sempre.errors import InputError
from sempre.images import hdf5_guard as guard
from sempre.images import read_micrograph
from sempre.images.volume import open_volume
from sempre.processes import batches_of, in_order
from tests.images.imaris import write_ims

GREY = np.arange(24 * 36, dtype=np.uint8).reshape(24, 36)


def write_damaged(path: Path, damage: str) -> None:
    """An Imaris file of which one attribute is a text that HDF5 finds no end in, or whose type ends the process."""
    write_ims(path, GREY[None, None])
    with h5py.File(path, "r+") as file:
        information = file["DataSetInfo/Image"].attrs
        del information["X"]
        information["X"] = "36"
    content = bytearray(path.read_bytes())
    if damage == "endless":
        at = content.index(b"GCOL") + 48  # the texts' heap: the bytes of what is free behind the first
        struct.pack_into("<Q", content, at, 0)
    else:
        content[content.index(b"\x19\1\1") + 1] = 255  # neither a text nor a list
    path.write_bytes(content)


def write_sound(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["image"] = GREY
    return path


def shape_of(path: Path) -> tuple[int, ...]:
    return read_micrograph(path).pixels.shape


class Shapes:
    """A data set whose workers read."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, ...]:
        return shape_of(self.paths[index])


def has_ended(pid: int) -> bool:
    """Whether a process ends within 20 s."""
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("damage", ["endless", "crash"])
@pytest.mark.parametrize("read", [read_micrograph, open_volume])
def test_what_hdf5_does_not_survive_is_refused(tmp_path, monkeypatch, damage, read):
    monkeypatch.setattr(guard, "COMPUTING", 1.0)
    write_damaged(tmp_path / "a.ims", damage)
    with pytest.raises(InputError, match=r"a\.ims is damaged: HDF5 finds no end in it or crashes, copy it again"):
        read(tmp_path / "a.ims")
    assert shape_of(write_sound(tmp_path / "b.h5")) == GREY.shape


def test_one_process_looks_through_all_files_and_through_each_once(tmp_path, monkeypatch):
    paths = [write_sound(tmp_path / f"{name}.h5") for name in "ab"]
    assert shape_of(paths[0]) == GREY.shape
    process = guard._process()
    assert [shape_of(path) for path in paths] == [GREY.shape] * 2
    assert guard._process() is process
    monkeypatch.setattr(guard, "_process", None)  # there is nobody to ask
    assert [shape_of(path) for path in paths] == [GREY.shape] * 2
    with h5py.File(paths[0], "w") as file:
        file["other"] = GREY[:12]
    with pytest.raises(InputError, match="not callable"):  # it is another file now
        shape_of(paths[0])


def test_pictures_start_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "_process", None)
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    assert shape_of(tmp_path / "a.tif") == open_volume(tmp_path / "a.tif").shape == GREY.shape


def test_a_process_that_somebody_has_ended_is_no_damage(tmp_path):
    assert shape_of(write_sound(tmp_path / "a.h5")) == GREY.shape
    process = guard._process()
    process.kill()
    process.wait()
    assert shape_of(write_sound(tmp_path / "b.h5")) == GREY.shape


def test_workers_and_threads_look_through_files_too(tmp_path):
    """Workers of a loader may have no workers of their own, by multiprocessing's rules."""
    paths = [write_sound(tmp_path / f"{number}.h5") for number in range(4)]
    assert list(in_order(shape_of, [(path,) for path in paths], 2)) == [GREY.shape] * 4
    for start in ("spawn", "fork"):
        loader = DataLoader(Shapes(paths), None, num_workers=1, multiprocessing_context=start)
        assert [tuple(shape) for shape in batches_of(loader)] == [GREY.shape] * 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(shape_of, paths)) == [GREY.shape] * 4


def test_a_forked_process_has_its_own(tmp_path):
    assert shape_of(write_sound(tmp_path / "a.h5")) == GREY.shape
    process = guard._process()
    fork = multiprocessing.get_context("fork").Process(target=shape_of, args=(write_sound(tmp_path / "b.h5"),))
    fork.start()
    fork.join()
    assert fork.exitcode == 0
    assert guard._process() is process
    assert shape_of(write_sound(tmp_path / "c.h5")) == GREY.shape


def test_it_ends_with_the_main_process(tmp_path):
    program = "import sys, time; from tests.images.test_guard import *; shape_of(Path(sys.argv[1]))"
    program += "; print(guard._process().pid, flush=True); time.sleep(60)"
    path = write_sound(tmp_path / "a.h5")
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as main:
        pid = int(main.stdout.readline())
        assert psutil.pid_exists(pid)
        main.kill()
    assert has_ended(pid)


READS_ON = """
import sys
from tests.images.test_guard import *

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    process = write_sound(folder / "a.h5") and shape_of(folder / "a.h5") and guard._process()
    write_damaged(folder / "a.ims", "endless")
    print(process.pid, flush=True)
    try:
        shape_of(folder / "a.ims")
    except KeyboardInterrupt:
        print(process.poll(), shape_of(write_sound(folder / "b.h5")), flush=True)
"""


def test_an_interrupt_is_the_main_processs(tmp_path):
    """As Ctrl-C in a terminal: the file that is looked through is given up, and the next one is read."""
    command = [sys.executable, "-c", READS_ON, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as main:
        pid = int(main.stdout.readline())
        time.sleep(1)
        os.killpg(main.pid, signal.SIGINT)
        assert main.stdout.read().decode().split(None, 1) == [str(-signal.SIGKILL), f"{GREY.shape}\n"]
        assert not main.stderr.read()
    assert has_ended(pid)
