import hashlib
import json

import pytest

from sempre.files import file_sha256, whole_or_absent, write_json


def test_file_sha256_is_the_hash_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_files_are_replaced_on_windows(tmp_path, like_windows):
    for value in (1, 2):
        write_json(tmp_path / "a.json", {"value": value})
    assert json.loads((tmp_path / "a.json").read_text()) == {"value": 2}
    assert b"\r" not in (tmp_path / "a.json").read_bytes()


def test_a_file_that_another_program_holds_is_named_and_kept(tmp_path, like_windows):
    (tmp_path / "a.json").write_text("old")
    like_windows.held.add(tmp_path / "a.json")
    with pytest.raises(PermissionError, match=r"a\.json cannot be written .* close the program"):
        write_json(tmp_path / "a.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), whole_or_absent(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
