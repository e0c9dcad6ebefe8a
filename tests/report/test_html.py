import base64
import io
import json
import re

import numpy as np
import torch
from PIL import Image

from sempre.pretraining.masked_autoencoders import FCMAE
from sempre.report.figures import loss_curves
from sempre.report.html import figure_row, heading, paragraph, picture, table, write_page
from sempre.training.pretraining_run import reconstruction_panels
from tests.pretraining.test_fcmae import crops, small_fcmae


def test_a_page_is_one_file_with_its_pictures_inside(tmp_path):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    parts = [heading("1 < 2"), paragraph("a & b"), table(("x", "y"), [("<i>", "1.0")])]
    parts.append(figure_row([picture(pixels, "pixels"), picture(tmp_path / "a.png", "file")]))
    write_page(tmp_path / "page.html", "title", parts)
    page = (tmp_path / "page.html").read_text()
    assert "1 &lt; 2" in page
    assert "a &amp; b" in page
    assert "&lt;i&gt;" in page
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(encoded) == 2
    for data in encoded:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), pixels)


def test_curves_show_training_and_validation(tmp_path):
    lines = [{"step": step, "kind": "train", "time": 0.0, "loss": 1 / (step + 1)} for step in range(5)]
    lines.append({"step": 4, "kind": "validation", "time": 0.0, "loss": 0.5})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (axes,) = loss_curves({"FCMAE": tmp_path / "log.jsonl"}, "loss").axes
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert curves["FCMAE"].shape == (5, 2)
    np.testing.assert_array_equal(curves["FCMAE, validation"], [[4, 0.5]])


def test_panels_show_original_visible_and_reconstruction():
    torch.manual_seed(0)
    model: FCMAE = small_fcmae()
    image, visible = crops(2)
    panels = reconstruction_panels(model, image, visible)
    assert panels.dtype == np.uint8
    assert panels.shape == (2 * 100, 3 * 100)
    first = np.clip((image[0, 0].numpy() * 0.25 + 0.5) * 255 + 0.5, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(panels[:96, :96].astype(int), first.astype(int), atol=1)
    assert (panels[:96, 100:196] == 128).mean() > 0.3, "the hidden patches are grey"
