import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco_mask

from sempre.data.coco import coco_layers, decompress_counts, read_coco, write_coco
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.images import encode_rle


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 0, 1, 3])),
        min_size=1,
        max_size=3,
    )
)
def test_pycocotools_sees_each_instance(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("coco") / "annotations.json"
    write_coco(path, ((f"{number}.tif", labels) for number, labels in enumerate(images)))
    content = json.loads(path.read_text())
    assert [image["file_name"] for image in content["images"]] == [f"{number}.tif" for number in range(len(images))]
    found = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        found[annotation["image_id"]].append(annotation)
    assert len({annotation["id"] for annotation in content["annotations"]}) == len(content["annotations"])
    for image, labels in zip(content["images"], images, strict=True):
        instances = [instance for instance in np.unique(labels) if instance]
        assert len(found[image["id"]]) == len(instances)
        for annotation, instance in zip(found[image["id"]], instances, strict=True):
            encoded = coco_mask.frPyObjects(annotation["segmentation"], *labels.shape)
            np.testing.assert_array_equal(coco_mask.decode(encoded), labels == instance)
            assert annotation["area"] == coco_mask.area(encoded)
            assert annotation["bbox"] == coco_mask.toBbox(encoded).tolist()


def test_what_is_written_is_read_back(tmp_path):
    labels = np.zeros((20, 30), np.int32)
    labels[2:8, 20:30], labels[8:20, 0:4] = 5, 7
    write_coco(tmp_path / "annotations.json", [("a.tif", labels)])
    annotated = read_coco(tmp_path / "annotations.json")["a.tif"]
    (layer,) = coco_layers(annotated, "annotations.json")
    np.testing.assert_array_equal(layer, np.where(labels == 5, 1, np.where(labels == 7, 2, 0)))


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [20, 30], "counts": [10, -5, 595]},
        {"size": [20, 30], "counts": [10, 4_000_000_000]},
        {"size": [20, 30], "counts": "PPPPPPPPPPPPPPPPPPP1"},
        {"size": [20, 30], "counts": "µ"},
        {"size": [20, 30]},
        [[1e300, 0, 5, 0, 5, 5]],
        [[float("nan"), 0, 5, 0, 5, 5]],
        [["a", "b", "c", "d", "e", "f"]],
        [1, 2, 3, 4, 5, 6],
        7,
    ],
)
def test_segmentations_that_cannot_be_are_refused(segmentation):
    """pycocotools ends the process, or takes memory without end, for some of them."""
    with pytest.raises(InputError, match="cannot be read"):
        coco_layers({"height": 20, "width": 30, "segmentations": [segmentation]}, "a.json")


@settings(max_examples=50, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_letters_stand_for_the_run_lengths_that_pycocotools_wrote(mask):
    letters = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert decompress_counts(letters) == encode_rle(mask)["counts"]


def test_names_that_lead_out_of_the_set_are_not_followed(tmp_path):
    (tmp_path / "set").mkdir()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "outside.png")
    for name in ("../outside.png", str(tmp_path / "outside.png"), "\0"):
        images = [{"id": 1, "file_name": name, "height": 20, "width": 30}]
        (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": []}))
        with pytest.raises(InputError, match="neither in"):
            LabelledSet(tmp_path / "set", coco=tmp_path / "a.json")
