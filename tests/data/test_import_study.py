"""The study's published data become a labelled set, from each layout in which people have it."""

import csv
import json
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from accelerate.state import AcceleratorState
from PIL import Image

import data.import_study as recipe
import finetune.mask_rcnn
from sempre.data.groups import read_groups
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError

SHAPE = (24, 40)
LOW, HIGH = 51, 40
LOW_TESTS = [0, 2, 4, 7, 16, 18, 33, 35]
HIGH_TESTS = [0, 2, 4, 7, 18, 26, 33]


def rendered(number: int, uncertain: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A micrograph that no other number has, and its labels; the uncertain ones have a particle more."""
    random = np.random.default_rng(number)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:8, 3 : 9 + number % 7], labels[12:20, 5:15] = 1, 2
    pixels = np.where(labels, 170, 60).astype(np.uint8) + random.integers(0, 40, SHAPE, dtype=np.uint8)
    if uncertain:
        labels[3:9, 30:36] = 3
    return pixels, labels


def low_files() -> list[str]:
    """The files of low magnification in the order of their numbers, by the names that they have."""
    training = [f"Positive-Examples/Training-Img{n}.png" for n in range(1, 21)]
    others = [f"Positive-Examples/Img{n}.png" for n in range(1, 12)]
    rounds = [f"Round-3/Img{n}.png" for n in range(1, 11)]
    return [*training, *others, *rounds, *(f"Varied-Brightness/Img{n}.tiff" for n in range(1, 11))]


def write_picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path) if path.suffix == ".png" else tifffile.imwrite(path, pixels)


@pytest.fixture(scope="module")
def osf(tmp_path_factory) -> Path:
    """What the two archives hold. Of high magnification the folders of labels are called the wrong way round."""
    folder = tmp_path_factory.mktemp("osf")
    for number, name in enumerate(low_files()):
        pixels, confident = rendered(number)
        for kind, labels in (("Confident-Labels", confident), ("Less-Certain_Labels", rendered(number, True)[1])):
            path = folder / "Low_Mag_Source_Files" / kind / name
            write_picture(path, pixels)
            tifffile.imwrite(path.with_name(f"{path.stem}_label.tif"), labels)
    for number in range(HIGH):
        pixels, confident = rendered(1000 + number)
        swapped = (("Less-Certain_Labels", confident), ("Confident-Labels", rendered(1000 + number, True)[1]))
        for kind, labels in swapped:
            path = folder / "High_Mag_Source_Files" / kind / f"{number + 1}.tiff"
            write_picture(path, pixels)
            tifffile.imwrite(path.with_name(f"{path.stem}_label.tif"), labels)
    return folder


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """What the authors' scripts make of it."""
    folder = tmp_path_factory.mktemp("scripts")
    seeds = {11920: 0, 1337: 3}
    for magnification, count, offset, tests in (("Low", LOW, 0, LOW_TESTS), ("High", HIGH, 1000, HIGH_TESTS)):
        for number in range(count):
            pixels, confident = rendered(offset + number)
            uncertain = rendered(offset + number, True)[1]
            home = folder / f"{magnification}_Magnification"
            if magnification == "Low" and number >= 41:
                uncertain = pixels  # their script looks for ".png" in the name of a ".tiff"
            kinds = {"Samples": pixels, "High_Confidence_Labels": confident, "Low_Confidence_Labels": uncertain}
            for kind, array in kinds.items():
                write_picture(home / kind / f"{number}.tif", array)
            for seed, shift in seeds.items():
                side = "test" if number in tests else "val" if (number + shift) % 5 == 1 else "train"
                at = home / f"base_training/{seed}/{side}"
                folders = {"samples": pixels, "labels_high_conf": confident, "labels_low_conf": uncertain}
                for kind, array in folders.items():
                    write_picture(at / kind / f"{number}.tif", array)
                new = number if magnification == "Low" else LOW + 1 + number
                combined = folder / f"Combined/base_training/{seed}/{side}"
                negative = folder / f"High_Mag_As_Negative_For_Low_Mag/base_training/{seed}/{side}"
                for kind, array in (("samples", pixels), ("labels_high_conf", confident)):
                    write_picture(combined / kind / f"{new}.tif", array)
                    write_picture(negative / kind / f"{new}.tif", array)
    return folder


def imported(monkeypatch, *arguments: object) -> None:
    recipe.main([*map(str, arguments)])


def check_set(out: Path, uncertain: bool = False) -> dict[str, list[str]]:
    """Every micrograph has its own pixels and labels, and its group: the sides are given back."""
    labelled = LabelledSet(out)
    assert len(labelled) == LOW + HIGH
    for index, name in enumerate(labelled.names):
        magnification, number = name.split("_")
        pixels, labels = rendered(int(number) + (1000 if magnification == "high" else 0), uncertain)
        image = labelled.images[index]
        stored = np.asarray(Image.open(image)) if image.suffix == ".png" else tifffile.imread(image)
        np.testing.assert_array_equal(stored, pixels, err_msg=name)
        np.testing.assert_array_equal(tifffile.imread(out / f"labels/{name}.tif"), labels, err_msg=name)
    groups = read_groups(str(out / "groups.csv"), labelled.paths)
    assert {name: group for name, group in groups.items() if not name.startswith(group)} == {}
    split = json.loads((out / "split.json").read_text())
    labelled.splits(split_file=out / "split.json")
    assert sorted(name for names in split.values() for name in names) == labelled.names
    for magnification in ("low", "high"):
        own = json.loads((out / f"split_{magnification}.json").read_text())
        assert own == {side: [n for n in names if n.startswith(magnification)] for side, names in split.items()}
    return split


def counts(split: dict[str, list[str]], magnification: str) -> tuple[int, ...]:
    return tuple(
        sum(name.startswith(magnification) for name in split[side]) for side in ("train", "validation", "test")
    )


def names_of(magnification: str, numbers: list[int]) -> set[str]:
    return {f"{magnification}_{number:02}" for number in numbers}


def test_the_files_of_osf_become_a_set_with_the_articles_sides(osf, tmp_path, monkeypatch, capsys):
    imported(monkeypatch, f"source={osf}", f"out={tmp_path / 'set'}")
    split = check_set(tmp_path / "set")
    assert counts(split, "low") == (34, 8, 9) and counts(split, "high") == (25, 7, 8)
    assert names_of("low", LOW_TESTS) | names_of("high", HIGH_TESTS) <= set(split["test"])
    printed = capsys.readouterr()
    assert "51 of low magnification (34 train, 8 validation, 9 test)" in printed.out
    assert "data_sources.txt" in printed.err
    rows = list(csv.DictReader((tmp_path / "set/sources.csv").open()))
    assert rows[-1]["micrograph"].endswith("Confident-Labels/Varied-Brightness/Img10.tiff")


def test_the_archives_themselves_are_read(osf, tmp_path, monkeypatch):
    """One packed with its folder, one without it, as both are made, with what macOS adds."""
    (tmp_path / "zips").mkdir()
    for name, top in (("Low_Mag_Source_Files", True), ("High_Mag_Source_Files", False)):
        with zipfile.ZipFile(tmp_path / f"zips/{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in (osf / name).rglob("*.*"):
                archive.write(file, file.relative_to(osf if top else osf / name))
            archive.writestr(f"__MACOSX/{name}/._Img1.png", b"no picture")
    imported(monkeypatch, f"source={tmp_path / 'zips'}", f"out={tmp_path / 'set'}", "labels=less_certain")
    check_set(tmp_path / "set", uncertain=True)


@pytest.mark.parametrize("labels", ["confident", "less_certain"])
def test_names_of_labels_are_swapped_for_high_magnification(osf, tmp_path, monkeypatch, labels):
    imported(monkeypatch, f"source={osf}", f"out={tmp_path / 'set'}", f"labels={labels}")
    check_set(tmp_path / "set", uncertain=labels == "less_certain")


def test_files_of_osf_are_numbered_by_the_scripts_own_list(osf, tmp_path, monkeypatch):
    """Of high magnification theirs come as the disk lists them: here backwards."""
    source = tmp_path / "source"
    shutil.copytree(osf, source)
    lines = ["Source_Path,Image_Index,Image_Shape"]
    for number in range(HIGH):
        origin = f"./High_Mag_Source_Files/Less-Certain_Labels/{HIGH - number}.tiff"
        lines.append(f"{origin},./High_Magnification/Samples/{number}.tif,(24, 40)")
    (source / "data_sources.txt").write_text("\n".join(lines))
    imported(monkeypatch, f"source={source}", f"out={tmp_path / 'set'}")
    first = tifffile.imread(tmp_path / "set/images/high_00.tiff")
    np.testing.assert_array_equal(first, rendered(1000 + HIGH - 1)[0])


def test_what_the_scripts_leave_is_read(scripts, tmp_path, monkeypatch):
    imported(monkeypatch, f"source={scripts}", f"out={tmp_path / 'set'}", "sides=scripts")
    split = check_set(tmp_path / "set")
    assert set(split["test"]) == names_of("low", LOW_TESTS) | names_of("high", HIGH_TESTS)
    assert counts(split, "low") == (34, 9, 8) and counts(split, "high") == (25, 8, 7)


def test_another_seed_validates_on_others_and_tests_on_the_same(scripts, tmp_path, monkeypatch):
    splits = []
    for seed in (0, 1):
        imported(monkeypatch, f"source={scripts}", f"out={tmp_path / 'set'}", f"seed={seed}")
        splits.append(check_set(tmp_path / "set"))
    assert splits[0]["test"] == splits[1]["test"]
    assert splits[0]["validation"] != splits[1]["validation"]


@pytest.mark.parametrize("seed", [11920, 1337])
def test_the_scripts_own_sides_are_taken_from_their_folders(scripts, tmp_path, monkeypatch, seed):
    imported(monkeypatch, f"source={scripts}", f"out={tmp_path / 'set'}", "layout=folders", f"scripts_seed={seed}")
    split = check_set(tmp_path / "set")
    shift = {11920: 0, 1337: 3}[seed]
    validation = [n for n in range(LOW) if n not in LOW_TESTS and (n + shift) % 5 == 1]
    assert {name for name in split["validation"] if name.startswith("low")} == names_of("low", validation)


def test_one_magnification_and_the_combined_folders_alone(scripts, tmp_path, monkeypatch):
    imported(monkeypatch, f"source={scripts}/Combined", f"out={tmp_path / 'both'}", "scripts_seed=1337")
    check_set(tmp_path / "both")
    imported(monkeypatch, f"source={scripts}/High_Magnification/base_training/1337", f"out={tmp_path / 'high'}")
    assert LabelledSet(tmp_path / "high").names == [f"high_{number:02}" for number in range(HIGH)]
    assert not (tmp_path / "high/split_low.json").exists()


def test_labels_that_are_the_micrograph_are_refused_by_name(scripts, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"41\.tif holds the micrograph and not its labels"):
        imported(monkeypatch, f"source={scripts}", f"out={tmp_path / 'set'}", "labels=less_certain")


def test_pieces_become_particles_when_asked(tmp_path, monkeypatch):
    """As skimage's measure.label numbers each id's pieces; more than 255 stay apart, which theirs do not."""
    pixels, labels = rendered(0)
    labels[:] = 0
    labels[1::2, ::2] = 1
    labels[1, 1:3] = 1
    for kind, array in (("Samples", pixels), ("High_Confidence_Labels", labels)):
        write_picture(tmp_path / "Low_Magnification" / kind / "0.tif", array)
    imported(monkeypatch, f"source={tmp_path / 'Low_Magnification'}", f"out={tmp_path / 'set'}", "clean=true")
    from skimage import measure

    expected = measure.label(labels == 1)
    assert expected.max() == 12 * 20 - 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "set/labels/low_00.tif"), expected)


def test_high_magnification_comes_to_the_common_size_when_asked(tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (600, 1024), dtype=np.uint8)
    labels = np.kron(random.integers(0, 9, (60, 64)), np.ones((10, 16))).astype(np.uint8)
    for kind, array in (("Samples", pixels), ("High_Confidence_Labels", labels)):
        write_picture(tmp_path / "High_Magnification" / kind / "0.tif", array)
    imported(monkeypatch, f"source={tmp_path / 'High_Magnification'}", f"out={tmp_path / 'set'}", "common_size=true")
    smooth = cv2.filter2D(pixels, -1, np.ones((3, 3), np.float32) / 9)
    expected = cv2.resize(smooth, (1920, 1200), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "set/images/high_00.tif"), expected)
    expected = cv2.resize(labels, (1920, 1200), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "set/labels/high_00.tif"), expected)


def test_an_interrupted_import_goes_on_and_another_is_refused(osf, tmp_path, monkeypatch):
    out = tmp_path / "set"
    whole, brought = recipe.import_micrograph, []

    def stopping(options, files, micrograph, *rest):
        if len(brought) == 20:
            raise KeyboardInterrupt
        brought.append(micrograph.name)
        whole(options, files, micrograph, *rest)

    monkeypatch.setattr(recipe, "import_micrograph", stopping)
    with pytest.raises(KeyboardInterrupt):
        imported(monkeypatch, f"source={osf}", f"out={out}")
    assert len(list((out / "labels").iterdir())) == 20 and not (out / "split.json").exists()
    monkeypatch.setattr(recipe, "import_micrograph", lambda *rest: (brought.append(rest[2].name), whole(*rest)))
    imported(monkeypatch, f"source={osf}", f"out={out}")
    assert len(brought) == len(set(brought)) == LOW + HIGH
    check_set(out)
    with pytest.raises(InputError, match="labels=confident, not less_certain"):
        imported(monkeypatch, f"source={osf}", f"out={out}", "labels=less_certain")


def test_other_folders_are_refused_with_what_was_looked_for(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    write_picture(tmp_path / "other/images/a.tif", rendered(0)[0])
    for source in ("empty", "other"):
        with pytest.raises(
            InputError, match=r"none of the study's.*Low_Mag_Source_Files\.zip.*Samples/.*base_training"
        ):
            imported(monkeypatch, f"source={tmp_path / source}", f"out={tmp_path / 'set'}")
        assert not (tmp_path / "set").exists()
    with pytest.raises(InputError, match="nowhere is neither a folder nor a file"):
        imported(monkeypatch, f"source={tmp_path / 'nowhere'}", f"out={tmp_path / 'set'}")
    with pytest.raises(InputError, match="no micrographs"):
        imported(monkeypatch, "set=unlabelled", f"source={tmp_path / 'empty'}", f"out={tmp_path / 'set'}")


def test_a_micrograph_without_labels_is_refused(osf, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(osf, source)
    (source / "Low_Mag_Source_Files/Confident-Labels/Round-3/Img3_label.tif").unlink()
    with pytest.raises(InputError, match=r"Round-3/Img3\.png has no confident labels"):
        imported(monkeypatch, f"source={source}", f"out={tmp_path / 'set'}")


@pytest.mark.parametrize("member", ["../../escaped.png", "/tmp/escaped.png", "..\\escaped.png", "C:\\escaped.png"])
def test_members_that_lead_elsewhere_are_refused(tmp_path, monkeypatch, member):
    (tmp_path / "source").mkdir()
    with zipfile.ZipFile(tmp_path / "source/a.zip", "w") as archive:
        archive.writestr(member, b"x")
    for kind in ("labelled", "unlabelled"):
        with pytest.raises(InputError, match="leads out of its folder"):
            imported(monkeypatch, f"set={kind}", f"source={tmp_path / 'source'}", f"out={tmp_path / 'in/set'}")
    assert not list(tmp_path.rglob("escaped*"))


def test_links_bombs_and_damaged_archives_are_refused(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    link = zipfile.ZipInfo("a.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refusals = [lambda: imported(monkeypatch, "set=unlabelled", f"source={source}", f"out={tmp_path / 'out'}")]
    with pytest.raises(InputError, match="which is a link"):
        refusals[0]()
    with zipfile.ZipFile(source / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as file:
        for _ in range(1025):
            file.write(bytes(1 << 20))
    with pytest.raises(InputError, match="of 1074790400 bytes"):
        refusals[0]()
    (source / "a.zip").write_bytes(b"PK\3\4 damaged")
    with pytest.raises(InputError, match=r"a\.zip is no ZIP archive"):
        refusals[0]()
    with zipfile.ZipFile(source / "a.zip", "w") as archive:
        archive.writestr("a.png", bytes(range(256)) * 8)
    damaged = bytearray((source / "a.zip").read_bytes())
    damaged[100] ^= 255
    (source / "a.zip").write_bytes(damaged)
    with pytest.raises(InputError, match="cannot be unpacked"):
        refusals[0]()
    assert not list((tmp_path / "out").rglob("*.png"))


def test_the_unlabelled_set_becomes_a_folder_that_a_store_is_prepared_from(tmp_path, monkeypatch, capsys):
    source, out = tmp_path / "yzrfv", tmp_path / "unlabelled"
    write_picture(source / "train/sem/0001.tif", rendered(1)[0])
    write_picture(source / "0001.png", rendered(2)[0])
    (source / "convnextv2_pico.pth").write_bytes(b"weights")
    (tmp_path / "b.png").write_bytes((source / "0001.png").read_bytes())
    with zipfile.ZipFile(source / "val.zip", "w") as archive:
        archive.write(tmp_path / "b.png", "val/sem/0001.png")
    for new in (3, 0):
        imported(monkeypatch, "set=unlabelled", f"source={source}", f"out={out}")
        assert f"3 micrographs ({new} new)" in capsys.readouterr().out
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "0001.png",
        "train/sem/0001.tif",
        "val/sem/0001.png",
    ]
    assert (out / "train/sem/0001.tif").read_bytes() == (source / "train/sem/0001.tif").read_bytes()


@pytest.mark.slow
def test_mask_rcnn_is_fine_tuned_on_the_set_and_scored_on_its_test_side(scripts, tmp_path, monkeypatch):
    imported(monkeypatch, f"source={scripts}/High_Magnification", f"out={tmp_path / 'set'}", "sides=scripts")
    monkeypatch.chdir(tmp_path)
    small = ["architecture=convnextv2_atto", "pyramid_channels=16", "box_head_width=16", "mask_head_layers=1"]
    small += ["proposals=20", "detections=20", "crop=32", "epochs=1", "batch=8", "workers=0", "score_threshold=0.5"]
    given = ["data=set", "split_file=set/split_high.json", "groups=set/groups.csv", "name=study", "validate_every=0"]
    AcceleratorState._reset_state(reset_partial_state=True)
    finetune.mask_rcnn.main([*given, *small])
    summary = json.loads((tmp_path / "runs/study/summary.json").read_text())
    assert set(summary["repeats"][0]["samples"]) == names_of("high", HIGH_TESTS)
