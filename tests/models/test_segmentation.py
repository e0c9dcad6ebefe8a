import numpy as np

from sempre.training import detector_scoring as segmentation


def test_what_scores_too_little_for_the_label_image_is_listed_all_the_same(monkeypatch):
    boxes = np.array([[2, 2, 20, 20], [24, 24, 40, 40]], np.float32)
    found = {"boxes": boxes, "scores": np.array([0.9, 0.3], np.float32), "masks": np.ones((2, 28, 28), np.float32)}
    monkeypatch.setattr(segmentation, "detect", lambda detector, pixels, scale: found)
    prediction = segmentation.segment(None, 1.0, 0.5, np.zeros((48, 48), np.float32))
    assert prediction.labels.max() == 1 and not prediction.labels[22:, 22:].any()
    assert len(prediction.masks) == 2 and list(prediction.scores) == list(found["scores"])
