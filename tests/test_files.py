import hashlib
import json

import pytest

from sempre.files import file_sha256, longest_name, read_json, whole_or_absent, write_json


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


@pytest.mark.parametrize("name", ["a" * 251 + ".tif", "粒" * 83 + ".png", "é" * 125 + ".csv"])
def test_the_longest_names_are_written(tmp_path, name):
    assert longest_name(tmp_path) - 6 <= len(name.encode()) <= longest_name(tmp_path)
    for text in ("old", "new"):
        with whole_or_absent(tmp_path / name) as partial:
            partial.write_text(text)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "new"


def test_json_has_no_number_for_what_is_not_finite(tmp_path):
    value = {"ap": float("nan"), "worst": [float("inf"), -float("inf"), (1.5, float("nan"))], "name": "NaN"}
    write_json(tmp_path / "a.json", value)

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert read == {"ap": None, "worst": [None, None, [1.5, None]], "name": "NaN"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_every_encoding_of_unicode(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"µ": "粒子"}', encoding=encoding)
    assert read_json(tmp_path / "a.json") == {"µ": "粒子"}
