import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from skimage.draw import disk

DISCS = {"a": [(40, 40, 20), (40, 120, 25), (120, 60, 30)], "b": [(50, 60, 22), (120, 120, 28)]}


def label_image(name: str) -> np.ndarray:
    """Discs that do not touch, 160 x 200 px, each with its id."""
    labels = np.zeros((160, 200), np.int32)
    for number, (y, x, radius) in enumerate(DISCS[name], start=1):
        labels[disk((y, x), radius)] = number
    return labels


def rle(mask: np.ndarray) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(map(int, encoded["size"])), "counts": encoded["counts"].decode()}


def circle(x: float, y: float, radius: float, corners: int = 64) -> list[tuple[float, float]]:
    """Corners of a polygon around a disc that skimage draws around the pixel (y, x)."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return [(x + 0.5 + radius * np.cos(angle), y + 0.5 + radius * np.sin(angle)) for angle in angles]


class Annotated:
    """A folder of two micrographs and the parts of a COCO file of them, to be changed and written."""

    def __init__(self, folder: Path):
        self.folder, self.images, self.annotations = folder, [], []
        (folder / "images").mkdir()
        for image_id, name in enumerate(DISCS, start=1):
            labels = label_image(name)
            pixels = np.where(labels > 0, 200, 40).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"images/{name}.png")
            self.images.append({"id": image_id, "file_name": f"{name}.png", "height": 160, "width": 200})
            for number in range(1, labels.max() + 1):
                rows, columns = np.nonzero(labels == number)
                box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
                annotation = {"id": len(self.annotations), "image_id": image_id, "category_id": 0, "iscrowd": 0}
                self.annotations.append({**annotation, "bbox": box, "segmentation": rle(labels == number)})

    def write(self, name: str = "annotations.json", encoding: str = "utf-8", **more: object) -> Path:
        content = {"images": self.images, "annotations": self.annotations, **more}
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(json.dumps(content), encoding=encoding)
        return self.folder / name


@pytest.fixture
def annotated(tmp_path) -> Annotated:
    return Annotated(tmp_path)
