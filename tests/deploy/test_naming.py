import os
from pathlib import Path

import pytest

from sempre.deploy.inputs import Source, name_results, portable


def sources(*found):
    """Of pairs of a folder and a path below it; of a path alone, a file that was named itself."""
    pairs = [(Path(one).parent, Path(one).name) if isinstance(one, str) else one for one in found]
    return [Source(Path("/data") / folder / path, Path("/data") / folder) for folder, path in pairs]


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ([("day", "a.tif"), ("day", "low/a.tif"), ("day", "low/b.x.png")], ["a", "low/a", "low/b.x"]),
        ([("day", "a.tif"), ("day", "a.jpg"), ("day", "b.tif")], ["a.tif", "a.jpg", "b"]),
        ([("day", "a.tif"), ("day", "a.jpg"), ("day", "a.tif.png")], ["a.tif", "a.jpg", "a.tif.png"]),
        (["day1/a.tif", "day2/a.tif", "day2/b.tif"], ["day1/a", "day2/a", "b"]),
        ([("x/day", "a.tif"), ("y/day", "a.tif")], ["x/day/a", "y/day/a"]),
        (["day1/a.tif", "day1/a.jpg", "day2/a.tif"], ["a.tif", "a.jpg", "day2/a"]),
    ],
)
def test_names_mirror_the_micrographs_and_never_meet(found, names):
    assert name_results(sources(*found), {}) == names


@pytest.mark.skipif(os.name == "nt", reason="has no such files")
def test_names_can_be_copied_to_windows():
    found = sources(("day", "a:b?.tif"), ("day", "run 1. /con.tif"))
    assert name_results(found, {}) == ["a_b_", "run 1._/_con"]


def test_names_differ_in_more_than_the_case_of_letters():
    named = name_results(sources(("day", "Low/a.tif"), ("day", "low/B.tif"), ("day", "low/a.tif")), {})
    assert named[1] == "low/B" and len({name.casefold() for name in named}) == 3


def test_earlier_results_keep_their_names():
    first, second = sources(("day", "a.tif"), ("day", "a.jpg"))
    recorded = {"a": str(first.path.resolve())}
    assert name_results([first, second], recorded) == ["a", "a.jpg"]
    third, fourth = sources(("day", "a.jpg.tif"), ("day", "a.png"))
    recorded["a.jpg"] = str(third.path.resolve())
    assert name_results([first, second, third, fourth], recorded) == ["a", "day/a", "a.jpg", "a.png"]
    (other,) = sources(("day2", "a.tif"))
    assert name_results([other], recorded) == ["day2/a"]


@pytest.mark.parametrize(
    "name", ["a<b>c", 'say "a"', "a|b", "a*", "what?", "nul", "COM1.tif", "a. ", "tab\t", "back\\slash"]
)
def test_windows_allows_the_names(name, like_windows):
    with pytest.raises(OSError, match="Invalid"):
        like_windows.check_name(name.replace("\\", "|"))
    like_windows.check_name(portable(name))
