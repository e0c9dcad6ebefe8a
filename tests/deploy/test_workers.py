"""A batch by several processes, or in shares on several computers, gives what one process gives."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import psutil
import pytest
import tifffile

from sempre.deploy.arguments import parse_shard
from sempre.deploy.batch import Batch, run_batch
from sempre.deploy.command import main
from sempre.deploy.inputs import find_inputs, share_of
from sempre.deploy.micrograph_results import BatchOptions
from sempre.deploy.released import find_bundle
from sempre.deploy.workers import Means, begin, divide
from sempre.errors import InputError
from sempre.processes import Died, Workers
from tests.deploy.conftest import bright_box_model, write_bundle


def write_square(path, side=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((120, 150), 200, np.uint16)
    pixels[40 : 40 + side, 30 : 30 + side] = 4000
    tifffile.imwrite(path, pixels)


def contents(out):
    """The bytes of all files of a results' folder, whose own name, which is the sample's, is left out."""
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for name in {"statistics.json", "size_distribution.csv"} & files.keys():
        files[name] = re.sub(rf'(?m)^{out.name},|"{out.name}"'.encode(), b"", files[name])
    return files


def rows(summary):
    with summary.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def micrographs(tmp_path):
    for number in range(7):
        write_square(tmp_path / f"in/{'low/' * (number % 2)}m{number}.tif", side=20 + 5 * number)
    (tmp_path / "in/cut.tif").write_bytes((tmp_path / "in/m0.tif").read_bytes()[:3000])
    tifffile.imwrite(tmp_path / "in/blank.tif", np.full((64, 64), 7, np.uint8))
    return tmp_path / "in"


@pytest.fixture
def segment(bright_box_bundle, tmp_path):
    """Run `sempre segment` and return the exit code."""

    def run(*arguments, out, model=bright_box_bundle):
        with pytest.raises(SystemExit) as stop:
            main(["segment", "--threads", "2", "--model", str(model), "--out", str(out), *map(str, arguments)])
        return stop.value.code

    return run


def test_two_workers_write_the_same_bytes_and_say_the_same_as_one(segment, micrographs, tmp_path, capsys):
    told = []
    for workers in (1, 2):
        out = tmp_path / "out"
        assert segment(micrographs, "--workers", workers, "--pixel-size", "2nm", out=out) == 1
        captured = capsys.readouterr()
        told.append((captured.out, sorted(captured.err.splitlines())))
        out.rename(tmp_path / f"by-{workers}")
    assert contents(tmp_path / "by-1") == contents(tmp_path / "by-2")
    assert told[0] == told[1]
    assert "8 particles" not in told[0][0] and "7 particles in 8 micrographs, 1 failed" in told[0][0]
    shutil.copytree(tmp_path / "by-2", tmp_path / "out")
    segment(micrographs, "--workers", 2, "--pixel-size", "2nm", out=tmp_path / "out")
    assert "(8 done before)" in capsys.readouterr().out


def test_the_released_model_finds_the_same_by_two_workers(tmp_path):
    random = np.random.default_rng(0)
    for name in "ab":
        pixels = random.normal(90, 8, (160, 200))
        for y, x in ((40, 50), (110, 140), (60, 150)):
            rows_, columns = np.ogrid[:160, :200]
            pixels[(rows_ - y) ** 2 + (columns - x) ** 2 < 15**2] += 90
        tifffile.imwrite(tmp_path / f"in-{name}.tif", pixels.clip(0, 255).astype(np.uint8))
    images = sorted(tmp_path.glob("in-*.tif"))
    for workers in (1, 2):
        options = BatchOptions(tmp_path / f"by-{workers}", formats=("tif", "csv"))
        with begin(Means(find_bundle(None), threads=2, scale=1.0), options, workers) as (settings, run):
            assert run_batch(find_inputs(images, options.out), Batch(options, settings, run)) == 0
    one, two = (contents(tmp_path / f"by-{workers}") for workers in (1, 2))
    assert one == two and rows(tmp_path / "by-1/summary.csv")[0]["particles"] != "0"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--workers", "0"), "0 workers cannot compute"),
        (("--workers", "2", "--threads", "0"), "0 threads cannot compute"),
        (("--workers", "2", "--tile", "10"), "a tile of 10 px is too small"),
        (("--workers", "2", "--scale", "0"), "scale"),
        (("--workers", "2", "--provider", "cuda"), "the provider cuda is not in this onnxruntime"),
    ],
)
def test_what_a_worker_refuses_is_one_line_before_anything_is_written(
    segment, micrographs, tmp_path, capsys, arguments, told
):
    assert segment(micrographs, *arguments, out=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_threads_and_gpus_are_divided():
    assert [means.threads for means in divide(Means("m", threads=8), 3)] == [2, 2, 2]
    assert [means.threads for means in divide(Means("m", threads=1), 3)] == [1, 1, 1]
    assert [means.device for means in divide(Means("m", provider="cuda"), 3)] == ["0", "1", "2"]
    assert [means.device for means in divide(Means("m", provider="cuda", device="1,3"), 3)] == ["1", "3", "1"]
    assert [means.device for means in divide(Means("m", provider="openvino", device="AUTO:GPU,CPU"), 2)] == [
        *["AUTO:GPU,CPU"] * 2
    ]
    assert [means.device for means in divide(Means("m"), 2)] == [None, None]


def prepare_numbers(offset):
    """For `Workers`: adds; 13 kills the worker, as the system does that has no memory left."""
    if offset < 0:
        raise InputError("no offset below 0")

    def work(number):
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return number + offset

    return work, offset


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
def test_a_worker_that_dies_is_named_and_the_rest_goes_on():
    with Workers(prepare_numbers, [(100,), (100,)]) as pool:
        assert pool.told == 100
        found = dict(pool.results([1, 13, 2, 3, 4]))
        assert isinstance(found.pop(13), Died)
        assert found == {1: 101, 2: 102, 3: 103, 4: 104}
        (died,) = (result for _, result in pool.results([13]))
        assert "was killed by signal 9, perhaps for lack of memory" in died.message
        assert dict(pool.results([5])) == {5: 105}, "another one took its place"
        idle = [worker.process for worker in pool.workers]
        for process in idle:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        assert dict(pool.results([6, 7])) == {6: 106, 7: 107}, "no task is lost with an idle worker"


def test_a_worker_that_refuses_is_an_error_for_all():
    with pytest.raises(InputError, match="no offset below 0"), Workers(prepare_numbers, [(1,), (-1,)]):
        pass


def slow_bundle(folder):
    """The bright box with so many convolutions before it that a micrograph takes seconds."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(bright_box_model())
    for node in model.graph.node:
        node.input[:] = ["slowed" if name == "image" else name for name in node.input]
    side, layers = 61, 25
    kernel = np.zeros((1, 1, side, side), np.float32)
    kernel[0, 0, side // 2, side // 2] = 1
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "kernel"))
    names = ["image", *(f"layer{number}" for number in range(layers - 1)), "slowed"]
    convolutions = [
        onnx.helper.make_node("Conv", [before, "kernel"], [after], pads=[side // 2] * 4)
        for before, after in pairwise(names)
    ]
    nodes = [*convolutions, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return write_bundle(folder, model.SerializeToString())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize("ending", ["kill a worker", "Ctrl-C"])
def test_killed_workers_and_ctrl_c(micrographs, tmp_path, ending):
    (micrographs / "cut.tif").unlink()
    out, bundle = tmp_path / "out", slow_bundle(tmp_path / "slow")
    command = [sys.executable, "-m", "sempre.deploy.command", "segment", micrographs, "--out", out, "--workers", "2"]
    process = subprocess.Popen(
        list(map(str, [*command, "--model", bundle, "--threads", "2"])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        until = time.monotonic() + 200
        while not list(out.rglob("m*_instances.tif")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        workers = [
            child
            for child in psutil.Process(process.pid).children()
            if "spawn_main" in " ".join(child.cmdline()) and "resource_tracker" not in " ".join(child.cmdline())
        ]
        assert len(workers) == 2
        if ending == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        else:
            workers[0].kill()
        stdout, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    assert "Traceback" not in stderr, stderr
    if ending == "Ctrl-C":
        assert not list(out.rglob(".*")), "no half-written file is left"  # SIGKILL may leave one, under a hidden name
        assert process.returncode == 130 and stderr.rstrip().endswith("interrupted")
        assert not any(worker.is_running() for worker in workers)
        return
    assert process.returncode == 1 and "1 failed" in stdout
    (failed,) = (row for row in rows(out / "summary.csv") if row["error"])
    assert f"(process {workers[0].pid}) was killed by signal 9" in failed["error"] and failed["error"] in stderr
    assert len(rows(out / "summary.csv")) == 8, "the rest went on"


def test_shares_are_disjoint_cover_all_and_stay_when_files_come(micrographs, tmp_path):
    def shares(count):
        sources = find_inputs([micrographs], tmp_path / "out").sources
        return [{source.path.name for source in share_of(sources, (k, count))} for k in range(1, count + 1)]

    for count in (1, 2, 3, 50):
        parts = shares(count)
        assert sum(map(len, parts)) == len(set.union(*parts)) == 9
    before = shares(3)
    for number in range(20):
        write_square(micrographs / f"new{number}.tif")
    after = shares(3)
    assert all(old <= new for old, new in zip(before, after, strict=True))
    assert min(map(len, after)) >= 3, "none is nearly empty"
    moved = shutil.copytree(micrographs, tmp_path / "elsewhere/mount")
    sources = find_inputs([moved], tmp_path / "out").sources
    assert {source.path.name for source in share_of(sources, (2, 3))} == after[1], "whatever the folder's own path"


def test_shards_write_into_one_folder_and_are_joined(segment, micrographs, tmp_path, capsys):
    assert segment(micrographs, out=tmp_path / "whole") == 1
    out = tmp_path / "out"
    codes = [segment(micrographs, "--shard", f"{k}/3", out=out) for k in (1, 2, 3)]
    assert sorted(codes) == [0, 0, 1]
    assert "when all have ended, the same command without --shard joins them" in capsys.readouterr().out
    shards = [out / f"summary_shard_{k}_of_3.csv" for k in (1, 2, 3)]
    assert sum(len(rows(shard)) for shard in shards) == 9
    assert not (out / "summary.csv").exists() and not (out / "size_distribution.png").exists()
    # Again, in other shares: what is done is not done again.
    capsys.readouterr()
    segment(micrographs, "--shard", "1/2", out=out)
    share = share_of(find_inputs([micrographs], out).sources, (1, 2))
    good = sum(source.path.name != "cut.tif" for source in share)
    assert f"({good} done before)" in capsys.readouterr().out
    assert segment(micrographs, out=out) == 1
    assert "(8 done before)" in capsys.readouterr().out
    assert contents(out) == contents(tmp_path / "whole"), "as if one had done it"


def test_a_shard_without_micrographs_is_no_failure(segment, micrographs, tmp_path, capsys):
    write_square(tmp_path / "one/a.tif")
    codes = [segment(tmp_path / "one", "--shard", f"{k}/4", out=tmp_path / "out") for k in (1, 2, 3, 4)]
    assert codes == [0] * 4
    assert capsys.readouterr().out.count("0 particles in 0 micrographs, 0 failed") == 3


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "1.5/4", "a/b", "1/4/2", "", "²/4", "/4", "%a/4"])
def test_a_share_that_cannot_be_is_one_line(segment, micrographs, tmp_path, capsys, text):
    assert segment(micrographs, f"--shard={text}", out=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(" ".join(f"error: --shard {text} is no share: give K/N".split())) and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert parse_shard("03/8") == (3, 8) and parse_shard(None) is None
