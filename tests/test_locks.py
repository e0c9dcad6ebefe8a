"""File systems without locks, whatever they answer: runs, stores, embeddings and staging go on, with one warning."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sempre.locks import try_lock
from tests.fuzzing import picture_seeds

ROOT = Path(__file__).parents[1]
# What such a file system answers to flock, lockf and HDF5's own locks (`NOLOCK` is the errno).
SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
static int no(void) { errno = atoi(getenv("NOLOCK")); return -1; }
int flock(int fd, int operation) { return no(); }
static int pass(const char *name, int fd, int command, void *argument) {
  if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK) return no();
  int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
  return real(fd, command, argument);
}
int fcntl(int fd, int command, ...) {
  va_list list; va_start(list, command); void *argument = va_arg(list, void *); va_end(list);
  return pass("fcntl", fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
  va_list list; va_start(list, command); void *argument = va_arg(list, void *); va_end(list);
  return pass("fcntl64", fd, command, argument);
}
"""
USES = """
import sys
from pathlib import Path
import h5py, numpy as np
from sempre.data.journal import JournaledFile
from sempre.data.shards import stage
from sempre.locks import open_hdf5_file
from sempre.images.read import read_micrograph
from sempre.training.run_folder import lock_run
lock_run("run")
lock_run("run")
with JournaledFile("journaled.h5") as journaled:
    with h5py.File(journaled, "w") as file:
        file["image"] = np.arange(64, dtype=np.uint8).reshape(8, 8)
    journaled.commit()
assert read_micrograph("journaled.h5").pixels[7, 7] == 63
with open_hdf5_file("journaled.h5") as file, open_hdf5_file("journaled.h5") as other:
    assert file["image"][0, 1] == other["image"][0, 1] == 1
print(stage("journaled.h5", "node").read_bytes() == Path("journaled.h5").read_bytes())
"""
WAITS = """
import sys, time
from pathlib import Path
from sempre.locks import one_at_a_time
with one_at_a_time(Path("lock")):
    assert not Path("inside").exists()
    Path("inside").touch()
    time.sleep(0.5)
    Path("inside").unlink()
print("done")
"""


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("preloaded")
    (folder / "none.c").write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "none.so", "none.c", "-ldl"], cwd=folder, check=True)
    return folder / "none.so"


def environment(library: Path, number: int) -> dict[str, str]:
    return os.environ | {"LD_PRELOAD": str(library), "NOLOCK": str(number), "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_everything_goes_on_without_locks_and_says_so_once(without_locks, number, tmp_path):
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", USES]
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment(without_locks, number), capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "True\n"
    assert finished.stderr.count("warning:") == 1
    assert "file system without locks" in finished.stderr


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_an_emd_that_rosettasciio_opens_is_read_with_what_the_message_says(without_locks, number, tmp_path):
    pytest.importorskip("rsciio")
    (tmp_path / "a.emd").write_bytes(picture_seeds.emds()[0])
    code = "import sys\nfrom sempre.images import read_micrograph\nprint(read_micrograph('a.emd').pixels.shape)"
    for more in ({}, {"HDF5_USE_FILE_LOCKING": "FALSE"}):
        surroundings = environment(without_locks, number) | more
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=120)
        if ended.returncode == 0:
            assert sorted(map(int, ended.stdout.strip("()\n").split(","))) == sorted(picture_seeds.GREY.shape)
        else:
            assert not more, ended.stderr
            assert "a.emd lies on a file system without locks" in ended.stderr.splitlines()[-1]
            assert "HDF5_USE_FILE_LOCKING=FALSE" in ended.stderr


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_one_stages_at_a_time_without_locks_too(without_locks, number, tmp_path):
    (tmp_path / "lock.taken").write_text("999999999")  # of a process that was killed
    command = [sys.executable, "-c", WAITS]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(without_locks, number), stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [b"done\n"] * 3
    assert not (tmp_path / "lock.taken").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
def test_a_lock_that_another_process_has_is_in_use(number, tmp_path):
    def lock() -> None:
        raise OSError(number, os.strerror(number))

    assert not try_lock(lock, tmp_path)
