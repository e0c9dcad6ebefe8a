import pytest

from tests.fuzzing import cases, model_formats, picture_formats
from tests.fuzzing.cases import case_content, run_case, watched_cases

FEW = 25  # cases of each format; tools/fuzz.py runs thousands
FORMATS = picture_formats.FORMATS | model_formats.FORMATS
SLOW = ("backbone", "safetensors", "run")  # which build networks


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    format, path = FORMATS[name], tmp_path / FORMATS[name].file_name
    seeds = format.seeds()
    for number in range(FEW // 5 if name in SLOW else FEW):
        path.write_bytes(case_content(format, seeds, seed=1, number=number))
        kind, said = run_case(format, path)
        assert kind in ("read", "refused"), f"case {number}: {said}"


@pytest.mark.parametrize("name", FORMATS)
def test_whole_files_are_read(name, tmp_path):
    """At least one of them, or nothing behind the first check would be fuzzed."""
    format, path = FORMATS[name], tmp_path / FORMATS[name].file_name
    kinds = []
    for content in format.seeds():
        path.write_bytes(content)
        kinds.append(run_case(format, path)[0])
    assert "read" in kinds


def test_a_case_is_told_by_its_seed():
    format = FORMATS["tiff"]
    contents = {case_content(format, format.seeds(), 0, number) for number in range(20)}
    assert contents == {case_content(format, format.seeds(), 0, number) for number in range(20)}
    assert len(contents) > 15
    assert contents.isdisjoint({case_content(format, format.seeds(), 1, number) for number in range(20)})


@pytest.mark.parametrize(
    ("letter", "kind", "said"),
    [
        ("r", "read", ""),
        ("f", "refused", "refused"),
        ("t", "traceback", "KeyError: 'missing' (misbehaving.py"),
        ("m", "memory", ""),
        ("c", "crash", "exit code -6: "),
        ("h", "hang", ""),
    ],
)
def test_every_end_of_a_case_is_told_apart(letter, kind, said, monkeypatch):
    monkeypatch.setattr(cases, "LONGEST", 1.0)
    (outcome,) = watched_cases("tests.fuzzing.misbehaving", letter, seed=0, first=7, end=8)
    assert (outcome.number, outcome.kind) == (7, kind), outcome.detail
    assert said in outcome.detail
