import subprocess
import sys

import pytest

from sempre.data.journal import PAGE, JournaledFile, journal_path
from sempre.errors import InputError


@pytest.fixture
def committed(tmp_path):
    """A file of five pages and a bit, committed."""
    path = tmp_path / "file"
    with JournaledFile(path) as file:
        file.write(b"committed " * 2100)
        file.commit()
    return path


def overwrite(file: JournaledFile) -> None:
    file.seek(PAGE - 5)
    file.write(b"x" * 10)  # over a page's edge
    file.seek(3 * PAGE)
    file.write(b"y" * 100_000)  # to beyond the end
    file.truncate(2 * PAGE)
    file.seek(0, 2)
    file.write(b"z" * 50)


def test_committed_writes_stay(committed):
    with JournaledFile(committed) as file:
        overwrite(file)
        file.commit()
    content = committed.read_bytes()
    assert content[PAGE - 5 : PAGE + 5] == b"x" * 10
    assert len(content) == 2 * PAGE + 50
    assert not journal_path(committed).exists()


def test_uncommitted_writes_are_taken_back_on_closing(committed):
    before = committed.read_bytes()
    with JournaledFile(committed) as file:
        overwrite(file)
    assert committed.read_bytes() == before


def test_writes_of_a_killed_process_are_taken_back_on_opening(committed):
    before = committed.read_bytes()
    script = f"""
import os, sys
sys.path.insert(0, {str(sys.path[0])!r})
from sempre.data.journal import JournaledFile
file = JournaledFile({str(committed)!r})
for start, data in [(4091, b"x" * 10), (12288, b"y" * 100000)]:
    file.seek(start)
    file.write(data)
file.truncate(8192)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert committed.read_bytes() != before
    assert journal_path(committed).exists()
    JournaledFile(committed).close()
    assert committed.read_bytes() == before
    assert not journal_path(committed).exists()


@pytest.mark.parametrize("length", [0, 5, 16, 30, 16 + 16 + PAGE, 16 + 16 + PAGE + 100])
def test_a_journal_cut_off_by_the_kill_is_used_as_far_as_it_goes(committed, length):
    before = committed.read_bytes()
    file = JournaledFile(committed)
    file.write(b"first page")
    whole = journal_path(committed).read_bytes()
    file.seek(PAGE)
    file._save(PAGE, PAGE + 1)  # journalled, but killed before it was overwritten
    if length >= len(whole):
        cut = journal_path(committed).read_bytes()[:length]
    else:
        file.roll_back()  # killed before the first page was overwritten
        cut = whole[:length]
    file._file.close()
    journal_path(committed).write_bytes(cut)
    JournaledFile(committed).close()
    assert committed.read_bytes() == before


def test_a_second_writer_is_refused(committed):
    with JournaledFile(committed), pytest.raises(InputError, match="in use"):
        JournaledFile(committed)


def test_a_foreign_journal_is_not_applied(committed):
    journal_path(committed).write_bytes(b"another program's journal of this name")
    with pytest.raises(InputError, match="not a journal"):
        JournaledFile(committed)
