"""Folders that are watched while somebody writes to them: what waits, what is segmented, and how it ends."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile

from sempre.deploy.batch import Batch, in_this_process
from sempre.deploy.command import main
from sempre.deploy.micrograph_results import BatchOptions
from sempre.deploy.segmenter import Segmenter
from sempre.deploy.watch import check_folders, watch
from sempre.errors import InputError

SETTLE = 0.4
PATIENCE = 120.0  # seconds, on a busy machine


def picture(side=50):
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40 : 40 + side, 30 : 30 + side] = 4000
    return pixels


def encoded(tmp_path, **options):
    tifffile.imwrite(tmp_path / "encoded", picture(), **options)
    return (tmp_path / "encoded").read_bytes()


def rows(out):
    if not (out / "summary.csv").exists():
        return {}
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        return {row["micrograph"]: row for row in csv.DictReader(file)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watched(bright_box_bundle, folder, tmp_path):
    """`watched(write)`: watch the folder while `write(wait_for)` writes to it in a thread; exit code and rows.

    `wait_for(condition)` is called with what is to be true before the writer goes on.
    """
    segmenter = Segmenter(bright_box_bundle, threads=1)

    def run(write, **options):
        out, ended, failed = tmp_path / "out", threading.Event(), []

        def wait_for(condition):
            until = time.monotonic() + PATIENCE
            while not condition(rows(out)):
                assert time.monotonic() < until, f"waited for nothing, with {rows(out)}"
                time.sleep(0.02)

        def writer():
            try:
                write(wait_for)
            except BaseException as error:
                failed.append(error)
            ended.set()

        thread = threading.Thread(target=writer)
        thread.start()
        batch_options = BatchOptions(out, **options)
        batch = Batch(batch_options, *in_this_process(segmenter, batch_options), watching=True)
        code = watch([folder], batch, ended.is_set, SETTLE)
        thread.join()
        if failed:
            raise failed[0]
        return code, rows(out)

    return run


def test_what_arrives_is_segmented_and_a_file_that_is_being_written_waits(watched, folder, tmp_path, capsys):
    whole = encoded(tmp_path)

    def write(wait_for):
        (folder / "a.tif").write_bytes(whole)
        wait_for(lambda rows: "a.tif" in rows)
        with (folder / "b.tif").open("wb") as file:
            for begin in range(0, len(whole), 6000):
                file.write(whole[begin : begin + 6000])
                file.flush()
                assert "b.tif" not in rows(tmp_path / "out"), "it was not whole yet"
                time.sleep(SETTLE / 4)
        wait_for(lambda rows: "b.tif" in rows)

    code, found = watched(write)
    assert code == 0
    assert {name: (row["particles"], row["error"]) for name, row in found.items()} == {
        "a.tif": ("1", ""),
        "b.tif": ("1", ""),
    }
    assert (tmp_path / "out/size_distribution.png").exists()
    assert "2 particles in 2 micrographs, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"imagej": True}, {"bigtiff": True}])
def test_a_writer_that_pauses_is_waited_for(watched, folder, tmp_path, capsys, options):
    whole = encoded(tmp_path, **options)

    def write(wait_for):
        (folder / "a.tif").write_bytes(whole[: len(whole) // 2])
        time.sleep(4 * SETTLE)
        assert not rows(tmp_path / "out")
        with (folder / "a.tif").open("ab") as file:
            file.write(whole[len(whole) // 2 :])
        wait_for(lambda rows: "a.tif" in rows)

    code, found = watched(write)
    assert (code, found["a.tif"]["error"], found["a.tif"]["particles"]) == (0, "", "1")
    assert capsys.readouterr().err.count("waiting for a.tif") == 1


def test_a_file_that_is_renamed_when_it_is_whole(watched, folder, tmp_path):
    whole = encoded(tmp_path)

    def write(wait_for):
        for name in ("a.tif.part", ".b.tif", "c.tmp"):
            (folder / name).write_bytes(whole[:3000])
        time.sleep(3 * SETTLE)
        for name, final in (("a.tif.part", "a.tif"), (".b.tif", "b.tif"), ("c.tmp", "c.tif")):
            (folder / name).write_bytes(whole)
            (folder / name).rename(folder / final)
        wait_for(lambda rows: len(rows) == 3)

    code, found = watched(write)
    assert code == 0 and set(found) == {"a.tif", "b.tif", "c.tif"}


def test_a_truncated_file_fails_at_the_end_and_stops_no_other(watched, folder, tmp_path, capsys):
    whole = encoded(tmp_path)

    def write(wait_for):
        (folder / "cut.tif").write_bytes(whole[:-5000])
        (folder / "empty.tif").write_bytes(b"")
        time.sleep(3 * SETTLE)
        (folder / "good.tif").write_bytes(whole)
        wait_for(lambda rows: "good.tif" in rows)

    code, found = watched(write)
    assert code == 1
    assert {name for name, row in found.items() if row["error"]} == {"cut.tif", "empty.tif"}
    assert found["good.tif"]["particles"] == "1"
    told = capsys.readouterr().err
    assert "waiting for cut.tif" in told and "waiting for empty.tif" in told and "Traceback" not in told


def test_files_and_folders_that_vanish_are_no_failures(watched, folder, tmp_path, capsys):
    whole = encoded(tmp_path)

    def write(wait_for):
        (folder / "gone.tif").write_bytes(whole)
        time.sleep(SETTLE / 2)
        (folder / "gone.tif").unlink()
        (folder / "cut.tif").write_bytes(whole[:3000])
        time.sleep(3 * SETTLE)
        (folder / "cut.tif").unlink()
        folder.rename(tmp_path / "away")  # as a network share that is lost
        time.sleep(3 * SETTLE)
        (tmp_path / "away").rename(folder)
        (folder / "kept.tif").write_bytes(whole)
        wait_for(lambda rows: "kept.tif" in rows)

    code, found = watched(write)
    assert code == 0 and set(found) == {"kept.tif"}


def test_a_file_that_vanishes_while_it_is_segmented_is_no_failure(watched, folder, tmp_path, monkeypatch, capsys):
    from sempre.deploy import micrograph_results

    reading = micrograph_results.read_micrograph

    def vanish(path, **options):
        if path.name == "a.tif":
            path.unlink()
        return reading(path, **options)

    monkeypatch.setattr(micrograph_results, "read_micrograph", vanish)
    whole = encoded(tmp_path)

    def write(wait_for):
        (folder / "a.tif").write_bytes(whole)
        (folder / "b.tif").write_bytes(whole)
        wait_for(lambda rows: "b.tif" in rows)

    code, found = watched(write)
    assert code == 0 and set(found) == {"b.tif"}
    assert "a.tif has gone before it was segmented" in capsys.readouterr().err


def test_a_micrograph_that_changes_later_is_segmented_again_and_so_is_one_whose_sidecar_comes(
    watched, folder, tmp_path
):
    def write(wait_for):
        tifffile.imwrite(folder / "a.tif", picture(20))
        wait_for(lambda rows: "a.tif" in rows)
        tifffile.imwrite(folder / "a.tif", picture(40))
        later = time.time() + 2  # dates count by the second, and files settle for longer than that
        os.utime(folder / "a.tif", (later, later))
        wait_for(lambda rows: float(rows["a.tif"]["covered_share"]) > 0.07)
        (folder / "a.txt").write_text("[SemImageFile]\nPixelSize=4.5\n")
        wait_for(lambda rows: rows["a.tif"]["pixel_size_nm"] == "4.5")

    code, found = watched(write)
    assert code == 0 and found["a.tif"]["pixel_size_source"] == "sidecar a.txt"


def test_it_goes_on_where_it_was_stopped(watched, folder, tmp_path, capsys):
    tifffile.imwrite(folder / "a.tif", picture())
    watched(lambda wait_for: wait_for(lambda rows: "a.tif" in rows))
    capsys.readouterr()
    tifffile.imwrite(folder / "b.tif", picture())
    watched(lambda wait_for: wait_for(lambda rows: "b.tif" in rows))
    assert "2 particles in 2 micrographs (1 done before), 0 failed" in capsys.readouterr().out


def test_results_below_the_watched_folder_do_not_arrive(watched, folder, tmp_path):
    tifffile.imwrite(folder / "a.tif", picture())

    def write(wait_for):
        wait_for(lambda rows: "a.tif" in rows)
        shutil.copy(tmp_path / "out/a_overlay.png", folder)
        shutil.copy(tmp_path / "out/a_instances.tif", folder)
        time.sleep(4 * SETTLE)

    assert set(watched(write)[1]) == {"a.tif"}


def test_what_cannot_be_watched_is_one_line(folder, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", picture())
    for path in (tmp_path / "a.tif", tmp_path / "absent"):
        with pytest.raises(InputError, match="is no folder"):
            check_folders([path], tmp_path / "out")
    with pytest.raises(InputError, match="is the folder of the micrographs"):
        check_folders([folder], folder)
    with pytest.raises(SystemExit) as stop:
        main(["segment", "--watch", str(folder), "--out", str(tmp_path / "out"), "--settle", "0"])
    assert stop.value.code == 2 and "--settle 0 is no time" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_signal_ends_it_cleanly_with_the_summary_written(bright_box_bundle, folder, tmp_path, number, workers):
    tifffile.imwrite(folder / "b.tif", picture())
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sempre.deploy.command", "segment", "--watch", folder, "--out", out]
    command += ["--model", bright_box_bundle, "--settle", "0.3", "--threads", "1", "--workers", str(workers)]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        until = time.monotonic() + PATIENCE
        while "b.tif" not in rows(out) and time.monotonic() < until and process.poll() is None:
            time.sleep(0.05)
        (folder / "a.tif").write_bytes((folder / "b.tif").read_bytes())
        while "a.tif" not in rows(out) and time.monotonic() < until and process.poll() is None:
            time.sleep(0.05)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr and "2 particles in 2 micrographs, 0 failed" in stdout
    assert list(rows(out)) == ["a.tif", "b.tif"], "sorted, as at the end of any batch"
    assert (out / "size_distribution.png").exists() and not list(out.glob(".*"))
