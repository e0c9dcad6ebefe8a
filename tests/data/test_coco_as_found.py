"""COCO files as people have them: merged, exported on another computer, with what tools make of outlines."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.images import encode_rle
from tests.data.conftest import DISCS, circle, label_image


def counts(folder) -> dict[str, int]:
    labelled = LabelledSet(folder)
    return {name: len(labelled.read(index).areas) - 1 for index, name in enumerate(labelled.names)}


ALL = {name: len(discs) for name, discs in DISCS.items()}


def change_ids_to_text(a):
    for image in a.images:
        image["id"] = str(image["id"])


def change_ids_to_floats(a):
    for annotation in a.annotations:
        annotation["image_id"] = float(annotation["image_id"])


def point_lists(a):
    for annotation, (y, x, radius) in zip(a.annotations, DISCS["a"] + DISCS["b"], strict=True):
        annotation["segmentation"] = [list(map(float, corner)) for corner in circle(x, y, radius)]


def flat_polygons(a):
    for annotation, (y, x, radius) in zip(a.annotations, DISCS["a"] + DISCS["b"], strict=True):
        annotation["segmentation"] = [float(number) for corner in circle(x, y, radius) for number in corner]


def run_lengths_as_lists(a):
    for annotation in a.annotations:
        annotation["segmentation"] = encode_rle(coco_mask.decode(annotation["segmentation"]).astype(bool))


def every_annotation_again(a):
    a.annotations += [{**one, "id": 100 + one["id"]} for one in copy.deepcopy(a.annotations)]


def again_as_polygons(a):
    for annotation, (y, x, radius) in zip(list(a.annotations), DISCS["a"] + DISCS["b"], strict=True):
        corners = [float(number) for corner in circle(x, y, radius) for number in corner]
        a.annotations.append({**annotation, "id": 100 + annotation["id"], "segmentation": [corners]})


def one_id_for_all_annotations(a):
    for annotation in a.annotations:
        annotation["id"] = 1


def no_sizes(a):
    for image in a.images:
        del image["height"], image["width"]


def listed_twice_with_folders(a):
    a.images.append({**a.images[0], "id": 9, "file_name": "images/a.png"})


def boxes_by_corners(a):
    for annotation in a.annotations:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


@pytest.mark.parametrize(
    "change",
    [
        change_ids_to_text,
        change_ids_to_floats,
        point_lists,
        flat_polygons,
        run_lengths_as_lists,
        every_annotation_again,
        again_as_polygons,
        one_id_for_all_annotations,
        no_sizes,
        listed_twice_with_folders,
        boxes_by_corners,
    ],
)
def test_what_is_meant_beyond_doubt_is_read(annotated, change):
    change(annotated)
    annotated.write()
    assert counts(annotated.folder) == ALL
    labelled = LabelledSet(annotated.folder)
    found, true = labelled.read(0).foreground, label_image("a") > 0
    assert (found & true).sum() / (found | true).sum() > 0.95


@pytest.mark.parametrize(
    "name",
    [
        "images\\{}.png",
        "D:\\Müller\\SEM 5\\{}.png",
        "/home/somebody/{}.png",
        "https://host.org/data/upload/{}.png?signature=1",
        "file:///C:/Users/me/{}.png",
        "day 1/{}.png",
        "./{}.png",
        "{}.PNG",
        "{}.jpg",
        "../images/{}.png",
        "upload/3/1a2b3c4d-{}.png",
        "my%20set/{}.png",
    ],
)
def test_folders_of_another_computer_are_passed_over(annotated, name, capsys):
    for image in annotated.images:
        image["file_name"] = name.format(image["file_name"][0])
    annotated.write()
    assert counts(annotated.folder) == ALL


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_read(annotated, encoding):
    annotated.write(encoding=encoding)
    assert counts(annotated.folder) == ALL


@pytest.mark.parametrize("name", ["export.json", "annotations/instances_default.json", "_annotations.coco.json"])
def test_the_only_export_is_found_whatever_its_name(annotated, name):
    annotated.write(name)
    (annotated.folder / "split.json").write_text('{"train": ["a"], "validation": ["b"]}')
    assert counts(annotated.folder) == ALL


def two_images_of_one_id(a):
    a.images[1]["id"] = 1
    for annotation in a.annotations:
        annotation["image_id"] = 1


def one_id_as_number_and_text(a):
    a.images[1]["id"] = "1"


def one_file_by_two_names(a):
    for image in a.images:
        image["file_name"] = f"day{image['id']}/a.png"


def boxes(a):
    for annotation in a.annotations:
        annotation["segmentation"] = []


def boxes_without_a_key(a):
    for annotation in a.annotations:
        del annotation["segmentation"]


def half_boxes(a):
    for annotation in a.annotations[::2]:
        annotation["segmentation"] = None


def boxes_as_polygons_of_two_points(a):
    for annotation in a.annotations[::2]:
        annotation["segmentation"] = [annotation["bbox"]]


def crowds(a):
    for annotation in a.annotations:
        annotation["iscrowd"] = 1


def none(a):
    a.annotations.clear()


def unknown_image(a):
    a.annotations[0]["image_id"] = 77


def missing_image(a):
    a.images[1]["file_name"] = "c.png"


def other_size(a):
    a.annotations[0]["segmentation"]["size"] = [200, 160]


def outside(a):
    a.annotations[0]["segmentation"] = [[210, 10, 230, 10, 230, 40]]


def shares(a):
    for annotation in a.annotations:
        annotation["segmentation"] = [[0.1, 0.1, 0.3, 0.1, 0.3, 0.3]]
        del annotation["bbox"]


def along_rows(a):
    for annotation in a.annotations:
        mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
        annotation["segmentation"] = {"size": [160, 200], "counts": encode_rle(mask.T)["counts"]}


def listed_again_with_others(a):
    a.images.append({**a.images[0], "id": 9})
    a.annotations.append({**a.annotations[0], "image_id": 9, "id": 50, "segmentation": [[1, 1, 30, 1, 30, 30]]})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (two_images_of_one_id, r"gives the id 1 to both a\.png and b\.png"),
        (one_id_as_number_and_text, r"gives the id 1 to both a\.png and b\.png"),
        (one_file_by_two_names, r"lists both day1/a\.png and day2/a\.png, but only"),
        (boxes, r"5 annotations of 5 that are boxes"),
        (boxes_without_a_key, r"5 annotations of 5 that are boxes"),
        (half_boxes, r"3 annotations of 5 that are boxes"),
        (boxes_as_polygons_of_two_points, r"3 annotations of 5 that are boxes"),
        (crowds, "outlines no particle"),
        (none, "outlines no particle"),
        (unknown_image, "an annotation of the image 77, which it does not list"),
        (missing_image, r"lists c\.png, which is neither in"),
        (other_size, r"its size is \[200, 160\]"),
        (outside, "lies outside of the image"),
        (shares, "cover no pixel"),
        (along_rows, "elsewhere than in their boxes"),
        (listed_again_with_others, r"lists a\.png twice, with 3 and 1 outlines"),
    ],
)
def test_what_could_be_read_wrong_is_refused_by_name(annotated, change, complaint):
    change(annotated)
    annotated.write()
    with pytest.raises(InputError, match=complaint):
        counts(annotated.folder)


def test_what_is_left_out_is_said(annotated, capsys):
    annotated.annotations[0]["iscrowd"] = 1
    annotated.annotations[1]["category_id"] = 5
    annotated.write(categories=[{"id": 0, "name": "grain"}, {"id": 5, "name": "Background"}])
    assert counts(annotated.folder) == {"a": 1, "b": 2}
    said = capsys.readouterr().err
    assert "1 annotations are marked iscrowd" in said and "1 annotations are of the background" in said


def test_a_polygon_past_the_border_is_cut_there(annotated):
    annotated.annotations = [{"id": 1, "image_id": 1, "segmentation": [[-30, 20, 50, 20, 50, 60, -30, 60]]}]
    annotated.write()
    read = LabelledSet(annotated.folder).read(0)
    expected = np.zeros((160, 200), bool)
    expected[20:60, :50] = True
    np.testing.assert_array_equal(read.foreground, expected)


def test_a_set_of_which_nothing_is_outlined_is_no_perfect_score(annotated):
    none(annotated)
    annotated.write()
    with pytest.raises(InputError, match="outlines no particle"):
        LabelledSet(annotated.folder).splits()


def test_a_split_table_may_begin_with_a_byte_order_mark(annotated):
    annotated.write()
    table = annotated.folder / "split.csv"
    table.write_text("a,train\nb,validation\n", encoding="utf-8-sig")
    assert [side.tolist() for side in LabelledSet(annotated.folder).split(split_file=table)] == [[0], [1]]
    assert json.loads((annotated.folder / "annotations.json").read_text())
