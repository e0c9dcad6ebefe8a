"""What labelling tools write: each export shows the same discs, which skimage drew."""

import base64
import csv
import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image
from roifile import ROI_TYPE, ImagejRoi

from sempre.data.exports import read_annotations, read_label_file
from sempre.data.labelled import LabelledSet
from sempre.deploy.rois import write_rois
from sempre.errors import InputError
from tests.data.conftest import DISCS, circle, label_image


def check(folder) -> None:
    """Both micrographs are found, and each disc is one instance where it is."""
    labelled = LabelledSet(folder)
    assert labelled.names == ["a", "b"]
    for index, name in enumerate(labelled.names):
        read, true = labelled.read(index), label_image(name)
        assert len(read.areas) - 1 == len(DISCS[name])
        for number in range(1, true.max() + 1):
            ids, pixels = np.unique(read.layers[0][true == number], return_counts=True)
            found = read.layers[0] == ids[pixels.argmax()]
            assert (found & (true == number)).sum() / (found | (true == number)).sum() > 0.95


def via_shapes(name: str) -> list[dict]:
    """The discs as a polygon, a circle and an ellipse."""
    polygon, *others = DISCS[name]
    corners = circle(polygon[1], polygon[0], polygon[2])
    shapes = [{"name": "polygon", "all_points_x": [x for x, _ in corners], "all_points_y": [y for _, y in corners]}]
    shapes += [{"name": "circle", "cx": x + 0.5, "cy": y + 0.5, "r": radius} for y, x, radius in others[:1]]
    return shapes + [
        {"name": "ellipse", "cx": x + 0.5, "cy": y + 0.5, "rx": radius, "ry": radius, "theta": 1.2}
        for y, x, radius in others[1:]
    ]


def via(name: str, regions: object) -> dict:
    return {"filename": f"{name}.png", "size": 1, "regions": regions, "file_attributes": {}}


def write_via_project(folder):
    images = {
        f"{name}.png1": via(name, [{"shape_attributes": shape, "region_attributes": {}} for shape in via_shapes(name)])
        for name in DISCS
    }
    (folder / "project.json").write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": images}))


def write_via_export_of_version_1(folder):
    images = {
        name: via(name, {str(number): {"shape_attributes": shape} for number, shape in enumerate(via_shapes(name))})
        for name in DISCS
    }
    (folder / "annotations.json").write_text(json.dumps(images), encoding="utf-8-sig")


def write_via_3(folder):
    files = {str(number): {"fid": number, "fname": f"{name}.png"} for number, name in enumerate(DISCS, 1)}
    shapes = {}
    for number, name in enumerate(DISCS, 1):
        for y, x, radius in DISCS[name]:
            shapes[f"s{len(shapes)}"] = {"vid": str(number), "xy": [3, x + 0.5, y + 0.5, radius], "av": {}}
    views = {number: {"fid_list": [number]} for number in files}
    (folder / "via3.json").write_text(json.dumps({"project": {}, "file": files, "view": views, "metadata": shapes}))


def write_via_csv(folder):
    with (folder / "via_export_csv.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        heading = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
        writer.writerow(heading.split(","))
        for name in DISCS:
            for number, shape in enumerate(via_shapes(name)):
                writer.writerow([f"{name}.png", 1, "{}", 3, number, json.dumps(shape), "{}"])


def write_cvat(folder):
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations><version>1.1</version>"]
    for number, name in enumerate(DISCS):
        lines.append(f'<image id="{number}" name="sub/{name}.png" width="200" height="160">')
        (y, x, radius), _, *rest = DISCS[name]
        points = ";".join(f"{px:.2f},{py:.2f}" for px, py in circle(x, y, radius))
        lines.append(f'<polygon label="p" occluded="0" points="{points}" z_order="0"></polygon>')
        mask = label_image(name) == 2
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        changes = np.flatnonzero(np.diff(np.concatenate([[0], inside.ravel().astype(int)])))
        runs = np.diff(np.concatenate([[0], changes, [inside.size]]))
        box = f'left="{columns[0]}" top="{rows[0]}" width="{inside.shape[1]}" height="{inside.shape[0]}"'
        lines.append(f'<mask label="p" rle="{", ".join(map(str, runs))}" {box}></mask>')
        for y, x, radius in rest:
            lines.append(f'<ellipse label="p" cx="{x + 0.5}" cy="{y + 0.5}" rx="{radius}" ry="{radius}"></ellipse>')
        lines.append('<points label="p" points="3,3"></points></image>')
    (folder / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]))


def write_labelme(folder):
    """Beside the micrographs, as LabelMe does: a polygon in two parts of a group, a circle, and a mask."""
    for name in DISCS:
        (y, x, radius), (y1, x1, radius1), *rest = DISCS[name]
        corners = circle(x, y, radius)
        shapes = [
            {"label": "p", "points": corners[:33], "group_id": 4, "shape_type": "polygon"},
            {"label": "p", "points": [*corners[32:], corners[0]], "group_id": 4, "shape_type": "polygon"},
            {
                "label": "p",
                "points": [[x1 + 0.5, y1 + 0.5], [x1 + 0.5 + radius1, y1 + 0.5]],
                "group_id": None,
                "shape_type": "circle",
            },
            {"label": "p", "points": [[1, 1], [9, 9]], "group_id": None, "shape_type": "line"},
        ]
        for _ in rest:
            mask = label_image(name) == 3
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            inside, png = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], io.BytesIO()
            Image.fromarray(inside.astype(np.uint8)).save(png, format="PNG")
            corners = [[int(columns[0]), int(rows[0])], [int(columns[-1]), int(rows[-1])]]
            text = base64.b64encode(png.getvalue()).decode()
            shapes.append({"label": "p", "points": corners, "shape_type": "mask", "mask": text})
        content = {"version": "5.4", "shapes": shapes, "imagePath": f"..\\{name}.png"}
        content |= {"imageHeight": 160, "imageWidth": 200}
        (folder / f"images/{name}.json").write_text(json.dumps(content))


def oval(y: int, x: int, radius: int) -> ImagejRoi:
    bounds = {"left": x - radius + 1, "top": y - radius + 1, "right": x + radius, "bottom": y + radius}
    return ImagejRoi(roitype=ROI_TYPE.OVAL, name="oval", **bounds)


def curved(y: float, x: float, radius: float) -> ImagejRoi:
    """A composite of cubic curves, as ImageJ makes when ovals are combined."""
    x, y, k = x + 0.5, y + 0.5, 0.5522847 * radius
    path = [0, x + radius, y]
    path += [3, x + radius, y + k, x + k, y + radius, x, y + radius]
    path += [3, x - k, y + radius, x - radius, y + k, x - radius, y]
    path += [3, x - radius, y - k, x - k, y - radius, x, y - radius]
    path += [3, x + k, y - radius, x + radius, y - k, x + radius, y, 4]
    segments = np.array(path, np.float32)
    bounds = {"left": int(x - radius), "top": int(y - radius), "right": int(x + radius), "bottom": int(y + radius)}
    return ImagejRoi(
        roitype=ROI_TYPE.RECT, name="shape", shape_roi_size=len(segments), multi_coordinates=segments, **bounds
    )


def write_roi_zips(folder):
    (folder / "labels").mkdir()
    for name in DISCS:
        (y, x, radius), second, *rest = DISCS[name]
        rois = [ImagejRoi.frompoints(np.array(circle(x, y, radius), np.float32)), oval(*second)]
        rois += [curved(*disc) for disc in rest]
        with zipfile.ZipFile(folder / f"labels/{name}_RoiSet.zip", "w") as archive:
            for number, roi in enumerate(rois):
                archive.writestr(f"{number:04d}.roi", roi.tobytes())


@pytest.mark.parametrize(
    "write",
    [
        write_via_project,
        write_via_export_of_version_1,
        write_via_3,
        write_via_csv,
        write_cvat,
        write_labelme,
        write_roi_zips,
    ],
)
def test_each_disc_is_an_instance(annotated, write):
    write(annotated.folder)
    check(annotated.folder)


def test_our_own_rois_come_back_to_the_pixel(tmp_path):
    draws = np.random.default_rng(3)
    labels = np.kron(draws.integers(0, 5, (9, 11)), np.ones((3, 4), int)).astype(np.int32)
    write_rois(tmp_path / "a_rois.zip", labels)
    layers = read_label_file(tmp_path / "a_rois.zip", labels.shape)
    np.testing.assert_array_equal(layers[0], labels)


def test_rois_that_overlap_are_all_kept(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, disc in enumerate([(40, 40, 20), (50, 50, 20), (60, 60, 20)]):
            archive.writestr(f"{number}.roi", oval(*disc).tobytes())
    layers = read_label_file(tmp_path / "a.zip", (100, 100))
    assert [int((layers == number).sum()) for number in (1, 2, 3)] == pytest.approx([np.pi * 19.5**2] * 3, rel=0.02)


def test_xml_with_entities_is_refused(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><annotations><image name="&c;"/></annotations>'
    (tmp_path / "a.xml").write_text(bomb)
    with pytest.raises(InputError, match="declares a document type"):
        read_annotations(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("<annotations><track id='0'/></annotations>", "of a video"),
        (
            "<annotations><image id='0' name='a.png' width='9' height='9'><mask rle='99' left='0' top='0' width='3'"
            " height='3'/></image></annotations>",
            "sum to 99",
        ),
        ("<annotations><image", "cannot be read"),
        ('<?xml version="1.0" encoding="ut-8"?><annotations/>', "cannot be read"),
    ],
)
def test_damaged_exports_of_cvat_are_explained(tmp_path, content, complaint):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(InputError, match=complaint):
        read_annotations(tmp_path / "a.xml")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sempre.data.imagej_rois.MOST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", bytes(5000))
    with pytest.raises(InputError, match="unpacks to more than"):
        read_label_file(tmp_path / "a.zip", (9, 9))


def test_rectangles_are_read_and_told(annotated, capsys):
    regions = [
        {"shape_attributes": {"name": "rect", "x": 10 * number, "y": 5, "width": 8, "height": 9}}
        for number in (1, 3, 5)
    ]
    (annotated.folder / "via.json").write_text(json.dumps({name: via(name, regions) for name in DISCS}))
    labelled = LabelledSet(annotated.folder)
    assert labelled.read(0).areas[1:].tolist() == [72, 72, 72]
    assert "all 6 outlines are rectangles" in capsys.readouterr().err


@pytest.mark.parametrize("side", ["imageWidth", "imageHeight"])
def test_a_mask_of_an_image_that_claims_to_be_huge_takes_no_memory(tmp_path, side):
    png = io.BytesIO()
    Image.fromarray(np.eye(6) > 0).save(png, "PNG")
    shape = {"label": "p", "shape_type": "mask", "points": [[3, 3], [9, 9]]}
    shape["mask"] = base64.b64encode(png.getvalue()).decode()
    content = {"imagePath": "a.png", "imageHeight": 24, "imageWidth": 36, "shapes": [shape]}
    (tmp_path / "a.json").write_text(json.dumps(content | {side: 36_000_000}))
    tracemalloc.start()
    with pytest.raises(InputError, match="px, more than the"):
        read_label_file(tmp_path / "a.json", (24, 36))
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    (tmp_path / "a.json").write_text(json.dumps(content))
    (labels,) = read_label_file(tmp_path / "a.json", (24, 36))
    assert np.argwhere(labels).tolist() == [[3 + at, 3 + at] for at in range(6)]
