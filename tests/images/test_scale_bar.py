import csv
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from sempre.images import read_micrograph
from sempre.images.scale_bar import find_bar, read_scale_bar
from sempre.images.scale_bar_lines import Box, without_lines
from sempre.images.scale_bar_text import Reader, _lengths_among, _votes, length_nm
from tests.images.databars import LAYOUTS, font
from tests.images.emps import FOLDER, needs_emps

READINGS = Path(__file__).with_name("emps_scale_bars.csv")  # of fifty micrographs, by eye


@pytest.fixture(scope="module")
def reader() -> Reader:
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    return Reader(threads=1)


def field(seed: int, height: int = 300, width: int = 480) -> np.ndarray:
    """Grey noise with bright and dark discs, uint8 `[H, W]`."""
    random = np.random.default_rng(seed)
    image = Image.new("L", (width, height), int(random.integers(90, 140)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, r = random.uniform(0, width), random.uniform(0, height * 0.6), random.uniform(8, 40)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=int(random.choice([60, 170])))
    noisy = np.asarray(image.filter(ImageFilter.GaussianBlur(1))) + random.normal(0, 8, (height, width))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def published(seed: int, text: str, ink: int, paper: int | None = None, ticks: int = 0, beside: bool = False):
    """A field with a bar and its text as authors draw them, and the bar's length in px."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(field(seed))
    draw = ImageDraw.Draw(image)
    length, thick, size = int(random.integers(60, 150)), int(random.integers(2, 10)), int(random.integers(20, 34))
    left, y = 200, 262
    words = font(size, "DejaVuSans-Bold.ttf" if seed % 2 else "STIXGeneral.ttf")
    if paper is not None:
        draw.rectangle((left - 20, y - size - 20, left + 200, y + 24), fill=paper)
    draw.rectangle((left, y, left + length - 1, y + thick - 1), fill=ink)
    for x in (left, left + length - 1):
        if ticks:
            draw.line((x, y - ticks, x, y + thick - 1 + ticks), fill=ink)
    if beside:
        draw.text((left + length + size // 2, y + thick / 2), text, fill=ink, font=words, anchor="lm")
    else:
        draw.text((left + length / 2, y - 6 - ticks), text, fill=ink, font=words, anchor="mb")
    return np.asarray(image), length


@pytest.mark.parametrize(
    ("text", "nm"),
    [
        ("200 nm", 200),
        ("1um", 1000),
        ("0.5 µm", 500),
        ("2 μm", 2000),
        ("-500 nm-", 500),
        ("1,000 nm", 1000),
        ("1 mm", 1e6),
        ("2.5µm", 2500),
        ("lum", 1000),
        ("200 nml", 200),
        ("2,5 μm", 2500),
        ("0.5um", 500),
        ("50.Dum", 50000),
        ("1O0 nm", 100),
        ("5.00ur", 5000),
        ("200. nm", 200),
    ],
)
def test_lengths_are_read(text, nm):
    assert length_nm(text) == nm


@pytest.mark.parametrize(
    "text",
    [
        *(
            "1 m",
            "1pm",
            "3 Å",
            "5 kV",
            "00 nm",
            "137 nm",
            "200",
            "WD 5 mm",
            "500 mm",
            "20 nm x",
            "7.0 ± 3.1 nm",
            "d = 5 nm",
        ),
        *("10 nm-1", "10 nm^{1", "5 nm−1", "5 nm ^-1", "2 nm⁻¹", "5 1/nm"),  # of diffraction patterns
    ],
)
def test_what_is_no_length_of_a_bar_or_may_be_misread_is_none(text):
    assert length_nm(text) is None


@pytest.mark.parametrize(
    ("vendor", "text", "nm"),
    [(vendor, *length) for vendor, length in zip(LAYOUTS, cycle([("2 µm", 2000), ("500 nm", 500)]), strict=False)],
)
def test_the_bars_of_the_vendors_are_read(reader, vendor, text, nm):
    bar = LAYOUTS[vendor](960, 171, text)
    micrograph = np.concatenate([field(3, 240, 960), bar.pixels])
    found = read_scale_bar(micrograph, reader)
    assert found is not None and found.length_nm == nm
    assert found.length_px == pytest.approx(bar.length_px, rel=0.02)


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("100 nm", {"ink": 255}),
        ("20 nm", {"ink": 0}),
        ("1um", {"ink": 0, "paper": 255}),
        ("0.5 µm", {"ink": 255, "paper": 0}),
        ("2 µm", {"ink": 255, "ticks": 6}),
        ("300 nm", {"ink": 230, "beside": True}),
    ],
)
def test_the_bars_of_authors_are_read(reader, text, style):
    for seed in (1, 2):
        pixels, length = published(seed, text, **style)
        found = read_scale_bar(pixels, reader)
        assert found is not None and found.length_nm == length_nm(text)
        assert found.length_px == pytest.approx(length, rel=0.02, abs=1)


def test_sixteen_bits_are_read_as_eight_are(reader):
    pixels, length = published(1, "100 nm", 255)
    found = read_scale_bar(pixels.astype(np.uint16) * 200, reader)
    assert found.pixel_size_nm == pytest.approx(100 / length, rel=0.02)


def test_no_bar_no_text_or_two_that_disagree_give_none(reader):
    assert read_scale_bar(field(0), reader) is None
    pixels, _ = published(1, "", 255)
    assert read_scale_bar(pixels, reader) is None
    image = Image.fromarray(field(1))
    ImageDraw.Draw(image).text((200, 240), "100 nm", fill=255, font=font(28))
    assert read_scale_bar(np.asarray(image), reader) is None
    one, other = published(1, "100 nm", 255)[0], published(1, "500 nm", 255)[0]
    assert read_scale_bar(np.concatenate([one, other]), reader) is None


def test_a_picture_without_room_for_a_bar_is_not_read(monkeypatch, reader):
    monkeypatch.setattr(reader, "lengths", lambda grey: pytest.fail("it was read"))
    assert read_scale_bar(np.zeros((127, 900), np.uint8), reader) is None


def test_a_number_and_its_unit_with_a_wide_space_between_them_are_one_length(reader):
    for space, nm in ((90, 20), (200, None)):
        image = Image.fromarray(field(1))
        draw = ImageDraw.Draw(image)
        for x, words in ((40, "20"), (40 + space, "nm")):
            draw.text((x, 250), words, fill=255, font=font(32), anchor="ls")
        draw.rectangle((40, 264, 119, 268), fill=255)
        found = read_scale_bar(np.asarray(image), reader)
        assert (found and found.length_nm) == nm
        assert found is None or found.length_px == pytest.approx(80, rel=0.02)


def with_small_writing(text: str) -> np.ndarray:
    """A large field with a bar of 90 px in the lower left corner, its text 7 px tall."""
    image = Image.fromarray(field(2, 900, 900))
    draw = ImageDraw.Draw(image)
    draw.rectangle((30, 876, 119, 879), fill=255)
    draw.text((75, 872), text, fill=255, font=font(9, "DejaVuSans-Bold.ttf"), anchor="mb")
    return np.asarray(image)


def test_writing_too_small_for_the_whole_picture_is_read_in_its_lower_corners(reader):
    pixels = with_small_writing("200 nm")
    assert not reader._confirmed(pixels, reader._writing(pixels)), "no longer a test of the second look"
    found = read_scale_bar(pixels, reader)
    assert found is not None and found.length_nm == 200
    assert found.length_px == pytest.approx(90, abs=0.5)


def test_writing_that_the_edge_of_a_corner_may_cut_is_not_taken_from_it(reader, monkeypatch):
    """Of 250 nm a corner may show 50 nm; where the writing ends inside, its place is the whole picture's."""
    tall, wide, apart = 100, 220, 110  # of the corners of 400x400 px, the left one above the right one
    seen = {
        "10 nm": Box(40, 30, 90, 50),
        "20 nm": Box(wide - 55, 30, wide - 5, 50),  # goes on to the right
        "30 nm": Box(4, apart + 30, 54, apart + 50),  # may have begun to the left
        "40 nm": Box(100, apart + 30, 150, apart + 50),
        "50 nm": Box(100, apart - 10, 150, apart + 10),  # of both
        "60 nm": Box(60, tall - 20, 110, tall + 4),  # with the room below it
    }
    monkeypatch.setattr(reader, "_writing", lambda corners: [(box, text) for text, box in seen.items()])
    found = reader._small_writing(np.zeros((400, 400), np.uint8))
    assert found == [
        (Box(40, 330, 90, 350), "10 nm"),
        (Box(280, 330, 330, 350), "40 nm"),
        (Box(60, 380, 110, 400), "60 nm"),
    ]


def test_a_box_around_text_and_bar_is_read_without_the_bar(reader, monkeypatch):
    image = Image.fromarray(field(1))
    draw = ImageDraw.Draw(image)
    draw.text((200, 258), "5 µm", fill=255, font=font(30), anchor="ls")
    draw.rectangle((190, 264, 309, 273), fill=255)
    both = Box(185, 222, 315, 290)
    monkeypatch.setattr(reader, "_writing", lambda picture: [(both, "5m")] if picture.shape == (300, 480) else [])
    assert without_lines(np.asarray(image), both) == Box(185, 222, 315, 263)
    found = read_scale_bar(np.asarray(image), reader)
    assert found is not None and found.length_nm == 5000
    assert found.length_px == pytest.approx(120, abs=0.5)


def test_a_number_that_was_not_seen_before_its_unit_is_looked_for_there(reader, monkeypatch):
    image = Image.fromarray(field(1))
    draw = ImageDraw.Draw(image)
    draw.text((200, 258), "3 µm", fill=255, font=font(30), anchor="ls")
    draw.rectangle((190, 268, 309, 273), fill=255)
    unit = Box(222, 230, 282, 266)
    monkeypatch.setattr(reader, "_writing", lambda picture: [(unit, "µm")] if picture.shape == (300, 480) else [])
    found = read_scale_bar(np.asarray(image), reader)
    assert found is not None and found.length_nm == 3000
    assert found.length_px == pytest.approx(120, abs=0.5)


def test_most_readings_must_name_one_length_and_none_another(reader, monkeypatch):
    """Of a zero with a stroke through it an OCR makes an 8 at times."""
    picture, box = field(1), Box(200, 240, 280, 264)
    for readings, lengths in (
        (("108 nm", "100 nm", "100 nm", "100 nm"), [100]),
        (("108 nm", "108 nm", "100 nm", "100 nm"), []),
        (("200 nm", "100 nm", "100 nm", "100 nm"), []),
    ):
        left = iter(readings)
        monkeypatch.setattr(reader, "_read", lambda line, left=left: next(left))
        assert [nm for _, nm in reader._elected(picture, [(box, "108 nm")])] == lengths


@pytest.mark.parametrize(
    ("readings", "votes"),
    [
        (["50 rim", "so rm", "50 rm", "50 rm", "s0 nm"], {50: 3}),  # small nm, as no other unit is misread
        (["0.5pm", "0.5p", "0.5 pm", "0.5 µm"], {500: 3}),
        (["50 pm", "50 nm"], {5e4: 1, 50: 1}),
        (["-2.0μm", "-20μm-", "2.0 μm"], {2000: 3}),  # of those who see a point fewer overlook it
        (["-2.0μm", "-20μm-", "20 μm"], {2000: 1, 2e4: 2}),
        (["2.0μm", "50μm", "2.0 μm"], {2000: 2, 5e4: 1}),
    ],
)
def test_readings_vote_for_lengths(readings, votes):
    assert _votes(readings) == votes


@pytest.mark.parametrize(
    ("line", "lengths"),
    [
        ("50x 200μm WD:28.0mm", ["200μm"]),
        ("20kV X5,000 5 µm 0012", ["5 µm"]),
        ("0.1 μm 100nm", ["0.1 μm"]),
        ("HFW 7.48 μm", []),
        ("d = 50 nm", []),
        ("15kV 8.9 mm", []),
    ],
)
def test_lengths_among_the_settings_of_a_line_are_those_that_no_word_names_as_another(line, lengths):
    words = line.split()
    found = _lengths_among([(Box(50 * k, 10, 50 * k + 40, 30), word) for k, word in enumerate(words)])
    assert [text for _, text in found] == lengths
    for box, text in found:
        first = words.index(text.split()[0])
        assert box == Box(50 * first, 10, 50 * (first + len(text.split()) - 1) + 40, 30)


def test_an_information_bar_is_looked_at_enlarged_where_no_length_was_found(reader, monkeypatch):
    bar = LAYOUTS["FEI"](960, 171, "2 µm")
    micrograph = np.concatenate([field(3, 600, 960), bar.pixels])
    shapes = []

    def writing(picture):
        shapes.append(picture.shape)
        return [(Box(1000, 20, 1100, 60), "2 µm")] if picture.shape[1] == 2 * 960 else []

    monkeypatch.setattr(reader, "_writing", writing)
    monkeypatch.setattr(reader, "_read", lambda line: "2 µm")
    (box, nm), *_ = reader.lengths(micrograph)
    assert nm == 2000 and (box.x0, box.x1) == (500, 550) and 600 <= box.y0 < box.y1 <= len(micrograph)
    assert shapes[-1][0] == pytest.approx(2 * (len(bar.pixels) + 4), abs=4)
    reader.lengths(micrograph[:600])
    assert all(shape[1] != 2 * 960 for shape in shapes[3:])


def drawn(*shapes: tuple[int, int, int, int]) -> np.ndarray:
    image = Image.new("L", (300, 120), 40)
    for shape in shapes:
        ImageDraw.Draw(image).rectangle(shape, fill=250)
    return np.asarray(image)


def test_a_line_at_the_border_a_second_line_and_half_a_line_are_in_doubt():
    text = Box(120, 40, 180, 64)
    assert find_bar(drawn((100, 76, 199, 80)), text).length == pytest.approx(100, abs=0.5)
    assert find_bar(drawn((180, 76, 299, 80)), text) is None
    assert find_bar(drawn((100, 76, 199, 80), (110, 24, 180, 28)), text) is None
    halves = drawn((60, 51, 112, 52), (187, 51, 239, 52))
    assert find_bar(halves, text).length == pytest.approx(180, abs=0.5)
    assert find_bar(drawn((60, 51, 112, 52), (187, 51, 210, 52)), text) is None
    loose = Box(97, 40, 203, 64)  # as an OCR may frame a text that lines touch
    assert find_bar(halves, loose).length == pytest.approx(180, abs=0.5)


def test_a_bar_stands_at_most_the_height_of_its_text_away():
    for gap, answered in ((22, True), (28, False)):
        found = find_bar(drawn((100, 64 + gap, 199, 68 + gap)), Box(120, 40, 180, 64))
        assert (found is not None) == answered


def test_a_faint_bar_stands_out_as_its_text_does_unless_it_is_thin():
    image = Image.new("L", (300, 120), 140)
    draw = ImageDraw.Draw(image)
    draw.text((150, 52), "100 nm", fill=164, font=font(24), anchor="mm")
    for thick, answered in ((5, True), (2, False)):
        draw.rectangle((100, 76, 199, 80), fill=140)
        draw.rectangle((100, 76, 199, 75 + thick), fill=164)
        found = find_bar(np.asarray(image), Box(105, 40, 195, 64))
        assert (found is not None) == answered
        assert found is None or found.length == pytest.approx(100, abs=0.5)


def test_a_bar_whose_outline_reaches_far_beyond_its_core_is_in_doubt():
    image = np.full((120, 300), 120, np.uint8)
    image[74:80, 100:160] = 255
    image[76:78, 103:157] = 20
    assert find_bar(image, Box(110, 40, 170, 66)) is None


def test_a_bar_beside_its_text_may_stand_on_the_same_line():
    assert find_bar(drawn((40, 57, 99, 66)), Box(120, 40, 180, 66)).length == pytest.approx(60, abs=0.5)


def test_what_shows_in_a_few_rows_beyond_the_text_is_no_other_half_of_a_thick_bar():
    image = drawn((30, 52, 99, 79), (188, 60, 200, 64))
    assert find_bar(image, Box(120, 40, 180, 80)).length == pytest.approx(70, abs=0.5)


def test_a_pale_band_leaves_nothing_open():
    text, image = Box(120, 40, 180, 64), drawn((100, 76, 199, 80)).copy()
    image[24:32, 20:280] = 110
    assert find_bar(image, text).length == pytest.approx(100, abs=0.5)
    image[24:32, 20:280] = 190
    assert find_bar(image, text) is None


@pytest.mark.parametrize(("hidden", "answered"), [((), True), ((4,), True), ((4, 5), False), ((0,), False)])
def test_a_particle_may_hide_one_of_eleven_ticks(hidden, answered):
    ticks = [(40 + 20 * k, 20, 41 + 20 * k, 32) for k in range(11) if k not in hidden]
    found = find_bar(drawn(*ticks), Box(180, 40, 240, 64))
    assert (found is not None) == answered
    assert found is None or found.length == pytest.approx(200, abs=0.5)


@pytest.mark.parametrize(("shift", "end", "answered"), [(64, 299, True), (64, 280, False), (84, 299, False)])
def test_of_eleven_ticks_the_border_may_hide_the_last_if_it_cuts_the_text_too(shift, end, answered):
    ticks = [(40 + 20 * k + shift, 20, 41 + 20 * k + shift, 32) for k in range(11)]
    found = find_bar(drawn(*(tick for tick in ticks if tick[0] < 300)), Box(end - 50, 40, end, 64))
    assert (found is not None) == answered
    assert found is None or found.length == pytest.approx(200, abs=0.5)


def test_a_line_that_ends_before_the_border_is_whole_unless_the_border_is_a_frame():
    text = Box(220, 40, 280, 64)
    assert find_bar(drawn((200, 76, 297, 80)), text).length == pytest.approx(98, abs=0.5)
    assert find_bar(drawn((200, 76, 298, 80)), text).length == pytest.approx(99, abs=0.5)
    framed = drawn((200, 76, 298, 80)).copy()
    framed[:, :299] += 5  # of which nothing is black
    framed[:, 299] = 0
    bright_ground = np.where(framed == 45, 160, framed)
    assert find_bar(framed, text) is not None
    assert find_bar(bright_ground.astype(np.uint8), text) is None


def test_a_bar_with_a_second_shade_at_its_ends_is_measured_to_the_middle_of_them():
    text, shades = Box(120, 40, 180, 64), (170, 170, 170, 110)
    image = drawn((100, 76, 219, 84)).copy()
    image[76:85, 216:220] = shades
    assert find_bar(image, text).length == pytest.approx(118, abs=0.5)
    image = drawn((100, 76, 159, 84)).copy()
    image[76:85, 156:160] = shades  # too much of a short bar to leave open which is meant
    assert find_bar(image, text) is None


@pytest.mark.parametrize(("length", "answered"), [(140, True), (60, False)])
def test_a_bar_is_measured_to_the_middle_of_its_outline_if_that_is_thin(length, answered):
    image = Image.new("L", (300, 120), 150)
    ImageDraw.Draw(image).rectangle((100, 74, 99 + length, 84), fill=255, outline=0, width=2)
    found = find_bar(np.asarray(image.filter(ImageFilter.GaussianBlur(0.7))), Box(120, 40, 180, 64))
    assert (found is not None) == answered
    assert found is None or found.length == pytest.approx(length - 2, rel=0.01)


@pytest.mark.parametrize("core", [255, 190])
def test_a_bar_that_is_paler_than_its_outline_is_measured_as_any(core):
    image = Image.new("L", (300, 120), 150)
    ImageDraw.Draw(image).rectangle((100, 74, 240, 84), fill=core, outline=0, width=2)
    assert find_bar(np.asarray(image), Box(110, 40, 170, 66)).length == pytest.approx(139, abs=0.5)


def test_the_tops_of_letters_are_no_bar_and_a_bar_in_the_box_of_its_text_is_one():
    image = Image.new("L", (200, 80), 20)
    ImageDraw.Draw(image).text((100, 40), "5mm", fill=240, font=font(18, "DejaVuSans-Bold.ttf"), anchor="mm")
    blurred = image.filter(ImageFilter.GaussianBlur(1.2))
    assert find_bar(np.asarray(blurred), Box(78, 30, 122, 50)) is None
    image = Image.new("L", (200, 100), 128)
    draw = ImageDraw.Draw(image)
    draw.text((100, 40), "200 nm", fill=0, font=font(24), anchor="mm")
    draw.rectangle((70, 58, 109, 63), fill=0)
    assert find_bar(np.asarray(image), Box(55, 24, 145, 70)).length == pytest.approx(40, abs=0.5)


def test_the_frame_of_a_box_is_no_bar():
    image = Image.new("L", (300, 120), 128)
    draw = ImageDraw.Draw(image)
    draw.rectangle((90, 30, 210, 76), fill=255, outline=0, width=2)
    assert find_bar(np.asarray(image), Box(110, 40, 190, 66)) is None
    draw.text((150, 53), "20 nm", fill=0, font=font(24), anchor="mm")
    assert find_bar(np.asarray(image), Box(110, 40, 190, 66)) is None


@pytest.mark.parametrize("figure", ["i um", "I um", "L um", "II um", "O um", "|| um", "１ um"])
def test_a_letter_in_the_place_of_a_one_is_no_fault(figure):
    assert length_nm(figure) in (None, 1000)


def test_a_bar_that_runs_into_texture_as_bright_is_in_doubt():
    text, image = Box(120, 40, 180, 64), drawn((100, 76, 199, 79)).copy()
    assert find_bar(image, text).length == pytest.approx(100, abs=0.5)
    image[66:110, 180:215] = 250 - 20  # the bar ends within it, at 190
    image[76:80, 190:215] = 250 - 25
    image[70:110, 216:] = 90
    assert find_bar(image, text) is None


def test_a_bar_of_which_texture_hides_a_part_is_in_doubt():
    text, image = Box(120, 40, 180, 64), drawn((100, 76, 199, 77)).copy()
    image[70:100, 60:165] = 150
    image[76:78, 100:158] = 250  # goes on to the left on brighter ground
    image[76:78, 158:165] = 120
    assert find_bar(image, text) is None


def test_half_of_a_bar_whose_text_is_framed_too_wide_is_in_doubt():
    image = drawn((60, 51, 112, 52), (187, 51, 299, 52))  # the right half leaves the picture
    assert find_bar(image, Box(90, 40, 183, 64)) is None


def test_one_row_at_the_border_that_is_short_beside_its_text_is_no_bar():
    image = drawn((110, 119, 129, 119))
    assert find_bar(image, Box(60, 90, 190, 119)) is None
    assert find_bar(drawn((100, 119, 159, 119)), Box(100, 90, 160, 116)).length == pytest.approx(60, abs=0.5)


def test_the_white_of_a_box_beside_its_letters_is_no_bar():
    image = Image.new("L", (200, 80), 120)
    draw = ImageDraw.Draw(image)
    draw.rectangle((30, 20, 130, 44), fill=255)
    draw.text((80, 33), "10 µm", fill=0, font=font(20), anchor="mm")
    assert find_bar(np.asarray(image), Box(48, 20, 114, 46)) is None


@needs_emps
def test_fifty_micrographs_of_publications_are_read_as_by_eye(reader):
    with READINGS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    answered = 0
    for row in rows:
        found = read_scale_bar(read_micrograph(FOLDER / "images" / f"{row['stem']}.png").pixels, reader)
        if found is not None:
            answered += 1
            assert found.length_nm == float(row["length_nm"]), row["stem"]
            assert found.length_px == pytest.approx(float(row["length_px"]), rel=0.02), row["stem"]
    assert len(rows) == 50 and answered >= 45


@needs_emps
@pytest.mark.parametrize(
    ("stem", "length_px", "nm"),
    [
        ("406975041a", 26, 20),
        ("b452204939", 192, 1e6),
        ("2242820128", 75.5, 1000),
        ("671b7c8831", 152, 2000),
        ("3a8af6d3f4", 88, 50),  # 50 rim
        ("63df66fb4d", 78, 500),  # 0.5pm
        ("d29d644539", 161, 2000),  # 20 µm, once
        ("0a55e7c93f", 55.5, 2e5),  # between a magnification and a working distance
        ("5c244a9ea8", 271, 5000),  # ten of eleven ticks
        ("c984680063", 198, 5e5),  # seen in the enlarged databar alone
    ],
)
def test_the_small_writing_of_publications_is_read_as_by_eye(reader, stem, length_px, nm):
    found = read_scale_bar(read_micrograph(FOLDER / "images" / f"{stem}.png").pixels, reader)
    assert found is not None and found.length_nm == nm
    assert found.length_px == pytest.approx(length_px, rel=0.02)
