import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from sempre.data.coco import coco_layers, read_coco, write_coco


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
