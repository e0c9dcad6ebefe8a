import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from sempre.data.store import Store
from sempre.data.store_writer import StoreWriter
from sempre.errors import InputError
from tests.in_process import run_here

SCRIPT = Path(__file__).parents[2] / "data" / "prepare.py"


def load_script():
    spec = importlib.util.spec_from_file_location("prepare", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = module
    spec.loader.exec_module(module)
    return module


def prepare(monkeypatch, *options) -> None:
    """Run the recipe in this process."""
    monkeypatch.setattr(sys, "argv", ["prepare.py", "workers=1", *map(str, options)])
    load_script().main()


def run(*options, cwd: Path | None = None, preexec_fn: Callable | None = None) -> subprocess.CompletedProcess[str]:
    """Run the recipe, with `preexec_fn` as a process of its own: its exit code and what it printed."""
    if preexec_fn is None:
        return run_here("data/prepare.py", *options, cwd=cwd or Path.cwd())
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, preexec_fn=preexec_fn)


def write_images(folder: Path, count: int = 12) -> Path:
    """Micrographs with noise of their own; every third shares a size."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        size = (80 + 10 * (number % 3), 100)
        pixels = np.random.default_rng(number).integers(20, 230, size, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{'AB'[number % 2]}_{number:02}.png")
    return folder


def contents(store: Path) -> dict:
    """All that a store holds, by name, but for where in the file it lies."""
    with h5py.File(store) as file:
        found = {name: str(value) for name, value in file.attrs.items()}

        def add(name: str, item) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("chunks/"):
                values = item[:]
                found[name] = values.tolist() if values.dtype == object else (values.shape, values.tobytes())

        file.visititems(add)
        return found


def test_a_folder_becomes_a_store(tmp_path, monkeypatch, capsys):
    folder = write_images(tmp_path / "images" / "day-1")
    prepare(monkeypatch, f"images={tmp_path / 'images'}", f"store={tmp_path / 'new' / 'store.h5'}", "patches=2")
    store = Store(tmp_path / "new" / "store.h5")
    assert len(store) == 12
    for index in range(12):
        file = tmp_path / "images" / store.file_of(index)
        assert file.parent == folder
        pixels = np.asarray(Image.open(file)).astype(float)
        low, high = np.percentile(pixels, [1, 99])
        expected = np.clip((pixels - low) / (high - low), 0, 1) * 255
        assert np.abs(store.read(index) - expected).max() <= 1
    assert len(store.patch_entries) == 24
    assert "12 images (12 new), 0 files left out" in capsys.readouterr().out


def test_contents_do_not_depend_on_the_number_of_workers(tmp_path):
    folder = write_images(tmp_path / "images")
    for workers in (1, 2):
        result = run(f"images={folder}", f"store={tmp_path / f'{workers}.h5'}", f"workers={workers}")
        assert result.returncode == 0, result.stderr
        assert "100%" in result.stderr  # the progress bar
    assert contents(tmp_path / "1.h5") == contents(tmp_path / "2.h5")


def test_bad_files_are_listed_with_the_reason_and_skipped(tmp_path, monkeypatch, capsys):
    folder = write_images(tmp_path / "images", 4)
    (folder / "empty.png").touch()
    (folder / "text.tif").write_text("this is no TIFF")
    Image.fromarray(np.full((80, 100), 17, dtype=np.uint8)).save(folder / "constant.png")
    tifffile.imwrite(folder / "undefined.tif", np.full((80, 100), np.nan, dtype=np.float32))
    whole = (folder / "A_00.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    prepare(monkeypatch, f"images={folder}", f"store={tmp_path / 'store.h5'}", "crop_information_bar=false")
    assert len(Store(tmp_path / "store.h5")) == 4
    report = json.loads((tmp_path / "store.h5.report.json").read_text())
    reasons = {file["path"]: file["reason"] for file in report["skipped"]}
    assert set(reasons) == {"empty.png", "text.tif", "constant.png", "undefined.tif", "truncated.png"}
    assert reasons["empty.png"] == "empty file"
    assert reasons["constant.png"] == "constant: every pixel is 17"
    assert reasons["undefined.tif"] == "no pixel is a finite number"
    assert "4 images (4 new), 5 files left out, reasons in" in capsys.readouterr().out


def test_copies_are_counted_and_share_a_side(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "images", 6)
    for number in range(6):
        (folder / f"copy-{number}.png").write_bytes((folder / f"{'AB'[number % 2]}_{number:02}.png").read_bytes())
    prepare(monkeypatch, f"images={folder}", f"store={tmp_path / 'store.h5'}")
    assert json.loads((tmp_path / "store.h5.report.json").read_text())["copies"] == 6
    store = Store(tmp_path / "store.h5")
    train, validation = store.split(0.4)
    assert len(train) + len(validation) == 12
    assert len(validation) >= 2
    assert not set(store.entries.sha256[train]) & set(store.entries.sha256[validation])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("prefix", ["A", "B"]), ("folder", ["images"]), ("csv", ["fine", "rods"]), ("none", [])],
)
def test_labels_come_from_where_the_user_says(tmp_path, monkeypatch, rule, expected):
    folder = write_images(tmp_path / "all" / "images", 4)
    (tmp_path / "labels.csv").write_text("images/A_00.png,rods\nB_01.png,fine\n")
    options = [f"labels_csv={tmp_path / 'labels.csv'}"] if rule == "csv" else []
    store = tmp_path / "store.h5"
    prepare(monkeypatch, f"images={folder.parent}", f"store={store}", f"labels_from={rule}", *options)
    store = Store(store)
    assert sorted(store.labels) == expected
    labels = {store.file_of(index): label for index, label in enumerate(store.entries.label.tolist())}
    if rule == "csv":
        assert labels["images/A_02.png"] == -1
        assert store.labels[labels["images/A_00.png"]] == "rods"
    if rule == "prefix":
        assert store.labels[labels["images/B_03.png"]] == "B"


def test_a_second_run_adds_new_files_alone(tmp_path, monkeypatch, capsys):
    folder = write_images(tmp_path / "images", 4)
    arguments = (f"images={folder}", f"store={tmp_path / 'store.h5'}")
    prepare(monkeypatch, *arguments)
    write_images(folder, 7)
    os.utime(folder / "A_02.png", ns=(1, 1))  # another time, the same contents
    capsys.readouterr()
    prepare(monkeypatch, *arguments)
    assert "7 images (3 new)" in capsys.readouterr().out
    assert len(Store(tmp_path / "store.h5")) == 7


def test_a_changed_file_is_named(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "images", 4)
    arguments = (f"images={folder}", f"store={tmp_path / 'store.h5'}")
    prepare(monkeypatch, *arguments)
    Image.fromarray(np.eye(90, dtype=np.uint8)).save(folder / "A_02.png")
    with pytest.raises(InputError, match=r"A_02\.png has changed since it was stored"):
        prepare(monkeypatch, *arguments)


def hears_interrupts() -> None:
    """As in a terminal: a shell lets what it starts in the background ignore Ctrl-C, these tests among it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop_midway(folder: Path, store: Path, how: signal.Signals) -> tuple[int, str]:
    """Begin with two workers and send `how` to all of them when the first pixels are written: exit code, stderr."""
    command = [sys.executable, str(SCRIPT), f"images={folder}", f"store={store}", "workers=2"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hears_interrupts,
    )
    while process.poll() is None and not (store.exists() and store.stat().st_size > 4_000_000):
        time.sleep(0.002)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    return process.wait(), process.communicate()[1]


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[Path, dict]:
    """A folder of more than two batches, and what its store holds."""
    folder = write_images(tmp_path_factory.mktemp("many") / "images", 1000)
    assert run(f"images={folder}", f"store={folder.parent / 'whole.h5'}", "workers=1").returncode == 0
    return folder, contents(folder.parent / "whole.h5")


def test_a_killed_run_goes_on_to_the_same_store(tmp_path, many):
    folder, whole = many
    killed = tmp_path / "killed.h5"
    # That stderr ends shows that the workers are gone too.
    assert stop_midway(folder, killed, signal.SIGKILL)[0] == -signal.SIGKILL
    with pytest.raises(InputError, match="run data/prepare"):
        Store(killed)
    assert run(f"images={folder}", f"store={killed}", "workers=1").returncode == 0
    assert contents(killed) == whole


def test_an_interrupted_run_keeps_what_it_has_read(tmp_path, many):
    folder, whole = many
    store = tmp_path / "store.h5"
    code, stderr = stop_midway(folder, store, signal.SIGINT)
    assert code == 130
    assert "Traceback" not in stderr
    assert 256 <= len(Store(store, partial=True)) < 1000
    assert run(f"images={folder}", f"store={store}", "workers=1").returncode == 0
    assert contents(store) == whole


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["images=nowhere"], "nowhere"),
        (["images=empty"], "empty"),
        (
            ["images=images", "percentiles=[99,1]"],
            "percentiles=[99,1] is out of range: give a list of 2, the smallest first",
        ),
        (["images=images", "labels_from=stars"], "labels_from=stars is unknown"),
        (["images=images", "labels_from=csv"], "labels_csv= is no file"),
        (["images=images", "pach_size=3"], "did you mean 'patch_size'?"),
        (["images=useless"], "none of the 2 files in useless can be used: see store.h5.report.json"),
    ],
)
def test_wrong_input_ends_in_one_line(tmp_path, options, complaint):
    write_images(tmp_path / "images", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "useless").mkdir()
    for name in "ab":
        (tmp_path / "useless" / f"{name}.png").write_bytes(b"")
    result = run("store=store.h5", "workers=1", *options, cwd=tmp_path)
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert complaint in last
    assert "Traceback" not in result.stderr


def limit_file_size():
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_full_disk_ends_in_one_line_and_leaves_no_broken_store(tmp_path):
    folder = write_images(tmp_path / "images", 40)
    result = run(f"images={folder}", f"store={tmp_path / 'store.h5'}", "workers=1", preexec_fn=limit_file_size)
    assert result.returncode == 2
    assert "File too large" in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert len(Store(tmp_path / "store.h5", partial=True)) == 0
    assert run(f"images={folder}", f"store={tmp_path / 'store.h5'}", "workers=1").returncode == 0
    assert len(Store(tmp_path / "store.h5")) == 40


def test_a_store_inside_the_folder_is_not_taken_for_a_micrograph(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "images", 3)
    for _ in range(2):
        prepare(monkeypatch, f"images={folder}", f"store={folder / 'store.h5'}")
    with StoreWriter(folder / "store.h5", crop_information_bar=True, labels_from="none") as writer:
        assert len(writer.stored) == 3
    assert json.loads((folder / "store.h5.report.json").read_text())["skipped"] == []


def test_micrographs_are_kept_at_another_scale(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300)).astype(np.uint8)
    tifffile.imwrite(folder / "a.tif", pixels, imagej=True, resolution=(0.5, 0.5), metadata={"unit": "nm"})
    prepare(monkeypatch, f"images={folder}", f"store={tmp_path / 'a.h5'}", "scale=0.5")
    store = Store(tmp_path / "a.h5")
    assert store.read(0).shape == (100, 150)
    assert store.entries.pixel_size_nm[0] == pytest.approx(4.0)
    store.close()
    with pytest.raises(InputError, match="scale"):
        prepare(monkeypatch, f"images={folder}", f"store={tmp_path / 'a.h5'}", "scale=0.25")
