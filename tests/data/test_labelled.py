import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

from sempre.data.labelled import LabelledSet
from sempre.data.splits import split
from sempre.errors import InputError
from sempre.files import file_sha256
from sempre.images.write import write_micrograph


def write_pair(folder, name: str, labels: np.ndarray, pixels: np.ndarray | None = None, label_folder="labels") -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / label_folder).mkdir(exist_ok=True)
    if pixels is None:
        pixels = np.where(labels > 0, 200, 30).astype(np.uint8)
        pixels[0, : len(name)] = [ord(letter) for letter in name]  # no two files alike
    Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    Image.fromarray(labels.astype(np.uint16)).save(folder / label_folder / f"{name}.png")


@pytest.fixture
def labels():
    """Three instances with ids that are not contiguous, two of which touch."""
    labels = np.zeros((40, 60), dtype=np.uint16)
    labels[5:15, 5:20] = 7
    labels[15:25, 5:20] = 300
    labels[20:38, 40:55] = 65_000
    return labels


@pytest.mark.parametrize("label_folder", ["labels", "segmaps"])
def test_label_images_are_read_with_contiguous_ids(tmp_path, labels, label_folder):
    write_pair(tmp_path, "field", labels, label_folder=label_folder)
    read = LabelledSet(tmp_path).read(0)
    assert read.layers.shape == (1, 40, 60)
    for new, old in [(1, 7), (2, 300), (3, 65_000)]:
        np.testing.assert_array_equal(read.layers[0] == new, labels == old)
        assert read.areas[new] == (labels == old).sum()
    assert len(read.areas) == 4
    assert read.pixels.dtype == np.uint8
    assert (read.pixels.min(), read.pixels.max()) == (0, 255)


def test_a_micrograph_without_instances_is_legal(tmp_path):
    write_pair(tmp_path, "empty", np.zeros((30, 30), dtype=np.uint16))
    read = LabelledSet(tmp_path).read(0)
    assert not read.layers.any()
    assert len(read.areas) == 1


def test_sizes_that_differ_are_both_named(tmp_path, labels):
    write_pair(tmp_path, "field", labels, pixels=np.eye(50, dtype=np.uint8))
    with pytest.raises(InputError, match=r"field\.png is 50x50 px but its labels in .*field\.png are 40x60 px"):
        LabelledSet(tmp_path).read(0)


def test_missing_and_empty_folders_and_labels_are_named(tmp_path, labels):
    with pytest.raises(InputError, match="nowhere does not exist"):
        LabelledSet(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no labels: put label images into"):
        LabelledSet(tmp_path)
    with pytest.raises(InputError, match=r"mine\.json does not exist"):
        LabelledSet(tmp_path, coco=tmp_path / "mine.json")
    (tmp_path / "labels").mkdir()
    with pytest.raises(InputError, match="images"):
        LabelledSet(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="images"):
        LabelledSet(tmp_path)
    write_pair(tmp_path, "labelled", labels)
    write_pair(tmp_path, "forgotten", labels)
    (tmp_path / "labels" / "forgotten.png").unlink()
    with pytest.raises(InputError, match="no labels for forgotten"):
        LabelledSet(tmp_path)


def test_two_micrographs_of_one_stem_are_refused(tmp_path, labels):
    write_pair(tmp_path, "field", labels)
    Image.fromarray(np.eye(40, 60, dtype=np.uint8)).save(tmp_path / "images" / "field.tif")
    with pytest.raises(InputError, match="share the stem field"):
        LabelledSet(tmp_path)


def test_the_split_is_the_rule_of_the_store(tmp_path, labels):
    for number in range(12):
        write_pair(tmp_path, f"field-{number}", labels)
    labelled = LabelledSet(tmp_path)
    train, validation = labelled.split(0.3, seed=4)
    assert sorted([*train, *validation]) == list(range(12))
    expected = split([file_sha256(image) for image in labelled.images], 0.3, seed=4)
    np.testing.assert_array_equal(np.flatnonzero(expected), validation)


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_split_file_decides(tmp_path, labels, kind):
    for name in "abcdef":
        write_pair(tmp_path, name, labels)
    file = tmp_path / f"split.{kind}"
    if kind == "json":
        file.write_text(json.dumps({"train": ["c", "a.png"], "validation": ["d"]}))
    else:
        file.write_text("name,side\nc,train\na.png,train\n\nd,validation\n")
    labelled = LabelledSet(tmp_path)
    train, validation = labelled.split(split_file=file)
    assert train.tolist() == [0, 2]
    assert validation.tolist() == [3]
    assert not len(labelled.splits(split_file=file).choosing), "two splits have nothing to choose on"
    if kind == "json":
        file.write_text(json.dumps({"train": ["c", "a.png"], "validation": ["d"], "test": ["f", "e"]}))
    else:
        file.write_text("c,train\na.png,train\nd,validation\nf,test\ne,test\n")
    sides = labelled.splits(split_file=file)
    assert [side.tolist() for side in (sides.training, sides.choosing, sides.held_out)] == [[0, 2], [3], [4, 5]]
    assert [side.tolist() for side in labelled.split(split_file=file)] == [[0, 2], [4, 5]]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"train": ["a", "z"], "validation": []}', "names z, which is not in"),
        ('{"train": ["a"], "validation": ["a.png"]}', "names a.png twice"),
        ('{"train": ["a"], "validation": [], "test": ["a"]}', "names a twice"),
        ('{"train": ["a"]}', "is no split"),
        ("not json", "is no split"),
    ],
)
def test_a_wrong_split_file_is_explained(tmp_path, labels, content, complaint):
    write_pair(tmp_path, "a", labels)
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match=complaint):
        LabelledSet(tmp_path).split(split_file=tmp_path / "split.json")


def test_a_side_that_is_none_is_named(tmp_path, labels):
    write_pair(tmp_path, "a", labels)
    (tmp_path / "split.csv").write_text("name,side\na,train\nb,tests\n")
    with pytest.raises(InputError, match="has the split 'tests': splits are train, validation, test"):
        LabelledSet(tmp_path).split(split_file=tmp_path / "split.csv")


def test_a_set_in_folders_of_its_sides_is_read_as_one(tmp_path, labels):
    """The layout of Rettenberger et al.'s published code: train/samples, train/labels, test/…, unlabeled/samples."""
    for side, names in {"train": "ab", "val": "c", "test": "de"}.items():
        for name in names:
            write_pair(tmp_path / side, name, labels)
        (tmp_path / side / "images").rename(tmp_path / side / "samples")
    (tmp_path / "unlabeled/samples").mkdir(parents=True)
    Image.fromarray(np.eye(40, 60, dtype=np.uint8)).save(tmp_path / "unlabeled/samples/z.tif")
    labelled = LabelledSet(tmp_path)
    assert labelled.names == list("abcde")
    sides = labelled.splits()
    assert [side.tolist() for side in (sides.training, sides.choosing, sides.held_out)] == [[0, 1], [2], [3, 4]]
    assert labelled.read(4).layers.max() == 3
    (tmp_path / "split.csv").write_text("e,train\na,validation\n")
    assert labelled.split(split_file=tmp_path / "split.csv")[0].tolist() == [4], "a split file goes before the folders"


def test_a_seeded_split_has_a_test_side_where_one_is_asked_for(tmp_path, labels):
    for number in range(12):
        write_pair(tmp_path, f"a{number}", labels)
        Image.fromarray(np.full((40, 60), number, np.uint8)).save(tmp_path / f"images/a{number}.png")
    labelled = LabelledSet(tmp_path)
    two, three = labelled.splits(0.25), labelled.splits(0.25, test_fraction=0.25)
    assert not len(two.choosing)
    assert three.held_out.tolist() == two.held_out.tolist(), "scored is what a store of that share never shows"
    assert len(three.training)
    assert len(three.choosing)
    everything = np.concatenate([three.training, three.choosing, three.held_out])
    assert sorted(everything) == list(range(12))
    with pytest.raises(InputError, match=r"validation_fraction=0\.6 and test_fraction=0\.4 leave nothing to train on"):
        labelled.splits(0.6, test_fraction=0.4)
    (tmp_path / "split.csv").write_text("a0,train\na1,validation\n")
    with pytest.raises(InputError, match=r"split\.csv already tell.* the splits: leave test_fraction=0\.2 away"):
        labelled.splits(split_file=tmp_path / "split.csv", test_fraction=0.2)


def test_labels_may_lie_in_the_sub_folders_of_their_micrographs(tmp_path, labels):
    for name in ("a", "b"):
        write_pair(tmp_path, name, labels)
    for folder in ("images", "labels"):
        (tmp_path / folder / "low").mkdir()
        (tmp_path / folder / "a.png").rename(tmp_path / folder / "low/a.png")
    (tmp_path / "images/high").mkdir()
    (tmp_path / "images/b.png").rename(tmp_path / "images/high/b.png")  # its labels stay where they are
    labelled = LabelledSet(tmp_path)
    assert labelled.names == ["a", "b"]
    assert labelled.read(0).layers.max() == labelled.read(1).layers.max() == 3


def write_coco(folder, segmentations: list, size=(40, 60), **image) -> None:
    (folder / "images").mkdir(exist_ok=True)
    Image.fromarray(np.eye(40, 60, dtype=np.uint8)).save(folder / "images" / "field.png")
    annotations = [
        {"id": number, "image_id": 9, "category_id": 1, "segmentation": segmentation, "iscrowd": 0}
        for number, segmentation in enumerate(segmentations)
    ]
    images = [{"id": 9, "file_name": "field.png", "height": size[0], "width": size[1], **image}]
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def test_coco_instances_that_overlap_are_all_kept(tmp_path):
    masks = np.zeros((4, 40, 60), dtype=bool)
    masks[0, 5:20, 5:20] = True
    masks[1, 10:25, 10:25] = True  # over the first
    masks[2, 15:30, 15:40] = True  # over both
    masks[3, 30:38, 45:55] = True  # over none
    compressed = coco_mask.encode(np.asfortranarray(masks[2].astype(np.uint8)))
    uncompressed = {"size": [40, 60], "counts": _runs(masks[1])}
    segmentations = [
        [[5, 5, 20, 5, 20, 20, 5, 20]],
        uncompressed,
        {"size": [40, 60], "counts": compressed["counts"].decode()},
        [[45, 30, 55, 30, 55, 38, 45, 38]],
    ]
    write_coco(tmp_path, segmentations)
    read = LabelledSet(tmp_path).read(0)
    assert len(read.areas) == 5
    for number, mask in enumerate(masks, 1):
        np.testing.assert_array_equal((read.layers == number).any(0), mask)
        assert read.areas[number] == mask.sum()
    assert len(read.layers) == 3


def _runs(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths, by the definition."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


def test_a_polygon_is_drawn_as_pycocotools_draws_it(tmp_path):
    polygon = [3.2, 7.9, 50.1, 4.4, 44.0, 35.5, 20.7, 20.2]
    write_coco(tmp_path, [[polygon]])
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([polygon], 40, 60)))
    np.testing.assert_array_equal(LabelledSet(tmp_path).read(0).layers[0], expected)


def test_crowds_and_empty_polygons_are_left_out(tmp_path):
    write_coco(tmp_path, [[], [[1, 1, 2, 2]], [[5, 5, 20, 5, 20, 20, 5, 20]]])
    content = json.loads((tmp_path / "annotations.json").read_text())
    crowd = {"size": [40, 60], "counts": [0, 2400]}
    content["annotations"].append({"id": 99, "image_id": 9, "iscrowd": 1, "segmentation": crowd})
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert LabelledSet(tmp_path).read(0).areas.tolist() == [2400 - 225, 225]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"size": (41, 60)}, r"field\.png is 40x60 px but its labels in .* are 41x60 px"),
        ({"file_name": "gone.png"}, r"lists gone\.png"),
        ({"segmentations": [{"size": [9, 9], "counts": [81]}]}, "cannot be read"),
        ({"segmentations": [{"size": [40, 60], "counts": None}]}, "cannot be read"),
        ({"segmentations": [{"size": [40, 60], "counts": [10**9]}]}, "cannot be read"),
    ],
)
def test_wrong_coco_files_are_explained(tmp_path, change, complaint):
    write_coco(tmp_path, change.pop("segmentations", []), **change)
    with pytest.raises(InputError, match=complaint):
        LabelledSet(tmp_path).read(0)


def test_a_file_that_is_not_coco_is_refused(tmp_path):
    for content in ["{", "[]", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}']:
        (tmp_path / "annotations.json").write_text(content)
        with pytest.raises(InputError, match="is no COCO instance file"):
            LabelledSet(tmp_path)
    (tmp_path / "annotations.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(InputError, match="lists no images"):
        LabelledSet(tmp_path)


def test_a_pixel_size_is_the_sets_only_if_its_micrographs_agree(tmp_path, labels):
    for name, pixel_size_nm in (("a", 2.0), ("b", 2.02), ("c", 4.0)):
        write_pair(tmp_path, name, labels)
        (tmp_path / f"images/{name}.png").unlink()
        write_micrograph(tmp_path / f"images/{name}.tif", labels, pixel_size_nm)
    assert LabelledSet(tmp_path).common_pixel_size_nm() is None
    write_micrograph(tmp_path / "images/c.tif", labels, 1.98)
    assert LabelledSet(tmp_path).common_pixel_size_nm() == pytest.approx(2.0)
    write_micrograph(tmp_path / "images/c.tif", labels)
    assert LabelledSet(tmp_path).common_pixel_size_nm() is None


def test_micrographs_of_one_sample_stay_on_one_side(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for place in range(12):
        for view in range(3):
            pixels = np.random.default_rng(10 * place + view).integers(0, 255, (32, 32), np.uint8)
            labels = np.zeros((32, 32), np.uint16)
            labels[4:20, 4:20] = 1
            tifffile.imwrite(tmp_path / f"images/spot{place}_view{view}.tif", pixels)
            tifffile.imwrite(tmp_path / f"labels/spot{place}_view{view}.tif", labels)
    labelled = LabelledSet(tmp_path)
    held_out = {labelled.names[index] for index in labelled.splits(0.3, sample=r"^(spot\d+)").held_out}
    places = {name.split("_")[0] for name in held_out}
    assert 0 < len(places) < 12
    assert held_out == {f"{place}_view{view}" for place in places for view in range(3)}
