import base64
import io
import json
import re

import numpy as np
from PIL import Image

from sempre.report.figures import GAP, TEXT, TILE, contact_sheet
from sempre.report.html import write_page
from sempre.report.scatter import Colouring, scatter, thumbnail


def test_points_carry_their_words_groups_and_thumbnails(tmp_path):
    pixels = np.full((300, 200), 128, np.uint8)
    part = scatter(
        "map",
        np.array([[0.5, 1.0], [2.0, -1.0]]),
        ["a.tif </script>", "b.tif"],
        [Colouring("clusters", np.array([0, 1]), ["first", "second"]), Colouring("labels", np.array([-1, 0]), ["x"])],
        [thumbnail(pixels), None],
    )
    write_page(tmp_path / "page.html", "title", [part])
    page = (tmp_path / "page.html").read_text()
    assert page.count("</script>") == 1, "a name cannot end the script"
    points = json.loads(re.search(r"const points = (\[.*?\]), colourings", page)[1])
    assert [point["text"] for point in points] == ["a.tif </script>", "b.tif"]
    assert [point["groups"] for point in points] == [[0, -1], [1, 0]]
    assert points[1]["image"] == ""
    image = Image.open(io.BytesIO(base64.b64decode(points[0]["image"])))
    assert image.size == (64, 96)
    assert not re.search(r"(src|href)=\"?http", page), "nothing is fetched"


def test_a_contact_sheet_has_a_tile_for_each_image():
    images = [np.full((50 + 100 * number, 300), 60 * number, np.uint8) for number in range(4)]
    sheet = contact_sheet(
        images, [f"{number}\na/very/long/name/that/does/not/fit/{number}.tif" for number in range(4)], 3
    )
    assert sheet.shape == (GAP + 2 * (TILE + TEXT + GAP), GAP + 3 * (TILE + GAP), 3)
    centre = GAP + TILE // 2
    assert sheet[centre, centre].tolist() == [0, 0, 0]
    assert sheet[centre, centre + TILE + GAP].tolist() == [60, 60, 60]
    assert sheet[centre + TILE + TEXT + GAP, centre].tolist() == [180, 180, 180]
    assert (sheet[-10:, -10:] == 255).all()
