import multiprocessing
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import sempre.data.shards
from sempre.data.journal import journal_path
from sempre.data.shards import open_store, stage
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.errors import InputError


def make(path: Path, *numbers: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with StoreWriter(path, patches=0) as writer:
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 256, (70, 90), dtype=np.uint8)
            writer.append(StoredImage(f"{number}.png", f"{number:064}", 1, 1, pixels))
        writer.finish()
    return path


@pytest.fixture
def count_copies(monkeypatch) -> list[Path]:
    """The sources of all copies that are made, in order."""
    copied = []
    real = sempre.data.shards._copy

    def copy(source, *others):
        copied.append(source)
        real(source, *others)

    monkeypatch.setattr(sempre.data.shards, "_copy", copy)
    return copied


def files_below(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file() and file.name != "lock")


def test_a_copy_is_whole_and_used_again(tmp_path, count_copies, capfd):
    source = make(tmp_path / "store.h5", 0, 1)
    copy = stage(source, tmp_path / "node")
    assert copy.is_relative_to(tmp_path / "node")
    assert copy.read_bytes() == source.read_bytes()
    assert "staging: 100%" in capfd.readouterr().err
    assert open_store(copy).fingerprint == open_store(source).fingerprint
    assert stage(source, tmp_path / "node") == copy
    assert count_copies == [source]
    assert capfd.readouterr().err == ""
    assert files_below(tmp_path / "node") == ["store.h5"]


def test_shards_keep_their_order(tmp_path, count_copies):
    for day, number in [("monday", 2), ("friday", 0), ("sunday", 1)]:
        make(tmp_path / "days" / day / "store.h5", number)
    sources = open_store(f"{tmp_path}/days/*/store.h5")
    copies = open_store(stage(f"{tmp_path}/days/*/store.h5", tmp_path / "node"))
    assert len(count_copies) == 3
    assert [copies.file_of(row) for row in range(3)] == [sources.file_of(row) for row in range(3)]
    for row in range(3):
        np.testing.assert_array_equal(copies.read(row), sources.read(row))


def test_a_changed_source_is_copied_again_beside_the_old_copy(tmp_path, count_copies):
    source = make(tmp_path / "store.h5", 0, 1)
    old = stage(source, tmp_path / "node")
    make(source, 2)
    new = stage(source, tmp_path / "node")
    assert (len(open_store(old)), len(open_store(new))) == (2, 3)
    status = source.stat()
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # the same size
    assert stage(source, tmp_path / "node") not in (old, new)
    assert len(count_copies) == 3


def test_stores_of_one_name_do_not_meet(tmp_path):
    copies = [
        stage(make(tmp_path / name / "store.h5", *numbers), tmp_path / "node")
        for name, numbers in [("a", [0]), ("b", [0, 1])]
    ]
    assert [len(open_store(copy)) for copy in copies] == [1, 2]


def test_variables_are_expanded(tmp_path, monkeypatch):
    source = make(tmp_path / "store.h5", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "node"))
    assert stage(source, "$TMPDIR/stores").is_relative_to(tmp_path / "node" / "stores")
    monkeypatch.delenv("TMPDIR")
    with pytest.raises(InputError, match=r"stage_to=\$TMPDIR names a variable that is not set"):
        stage(source, "$TMPDIR")


def test_a_full_disk_is_told_before_copying(tmp_path, monkeypatch, count_copies):
    source = make(tmp_path / "store.h5", 0)
    with source.open("r+b") as file:
        file.truncate(3 << 30)  # a hole of 3 GiB
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**10, 10**10 - 10**9, 10**9))
    with pytest.raises(InputError, match=r"needs 3\.2 GB and 1\.0 GB are free"):
        stage(source, tmp_path / "node")
    assert count_copies == []
    assert files_below(tmp_path / "node") == []


def test_what_is_there_already_needs_no_space(tmp_path, monkeypatch):
    source = make(tmp_path / "store.h5", 0)
    copy = stage(source, tmp_path / "node")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 0))
    assert stage(source, tmp_path / "node") == copy


def _die_in_the_middle(source: Path, node: Path) -> None:
    sempre.data.shards.PART = 1000
    sempre.data.shards.tqdm.update = lambda self, count: os._exit(9)
    stage(source, node)


def test_a_kill_in_the_middle_leaves_nothing_that_is_taken_for_whole(tmp_path):
    source = make(tmp_path / "store.h5", 0, 1)
    child = multiprocessing.get_context("fork").Process(target=_die_in_the_middle, args=(source, tmp_path / "node"))
    child.start()
    child.join()
    assert child.exitcode == 9
    assert files_below(tmp_path / "node") == [".store.h5.partial"]
    copy = stage(source, tmp_path / "node")  # the killed process's lock went with it
    assert copy.read_bytes() == source.read_bytes()
    assert files_below(tmp_path / "node") == ["store.h5"]


def test_an_error_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    source = make(tmp_path / "store.h5", 0, 1)

    def fail(self, count):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sempre.data.shards.tqdm, "update", fail)
        with pytest.raises(OSError, match="No space left"):
            stage(source, tmp_path / "node")
    assert files_below(tmp_path / "node") == []
    assert stage(source, tmp_path / "node").read_bytes() == source.read_bytes()


def test_a_source_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    source = make(tmp_path / "store.h5", 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(sempre.data.shards.tqdm, "update", lambda self, count: os.utime(source, ns=(1, 1)))
        with pytest.raises(InputError, match="changed while it was being copied"):
            stage(source, tmp_path / "node")
    assert files_below(tmp_path / "node") == []


def _stage_and_note(source: Path, node: Path, notes: Path) -> None:
    real = sempre.data.shards._copy

    def slow_copy(*arguments):
        (notes / f"copied-by-{os.getpid()}").touch()
        time.sleep(0.3)  # long enough for the others to arrive
        real(*arguments)

    sempre.data.shards._copy = slow_copy
    copy = stage(source, node)
    (notes / f"saw-{os.getpid()}").write_text(str(len(open_store(copy))))


def test_processes_that_stage_at_once_copy_once(tmp_path):
    source = make(tmp_path / "store.h5", 0, 1)
    (tmp_path / "notes").mkdir()
    arguments = (source, tmp_path / "node", tmp_path / "notes")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_stage_and_note, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list((tmp_path / "notes").glob("copied-by-*"))) == 1
    assert [note.read_text() for note in (tmp_path / "notes").glob("saw-*")] == ["2"] * 3


def test_a_store_that_is_missing_or_being_written_is_not_staged(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        stage(tmp_path / "none.h5", tmp_path / "node")
    source = make(tmp_path / "store.h5", 0)
    journal_path(source).touch()
    with pytest.raises(InputError, match="being written"):
        stage(source, tmp_path / "node")
