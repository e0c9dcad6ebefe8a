"""Segment a batch of micrographs: one that fails stops no other, and what is done is not done again."""

import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from tqdm import tqdm

from sempre import __version__
from sempre.deploy.bundle import NAMES
from sempre.deploy.formats import SIZE_PLOT, USUAL, result_paths
from sempre.deploy.inputs import Inputs, Source, choose_pages, name_pages, name_results, share_of
from sempre.deploy.overlay import write_overlay
from sempre.deploy.pages import PageTables, read_diameters
from sempre.deploy.rois import write_rois
from sempre.deploy.sample_statistics import PAGE, Table, instrument, write_statistics
from sempre.deploy.scale import find_pixel_size, scale_warning, square_warning
from sempre.deploy.segmenter import DECODING_VERSION, Segmentation, Segmenter
from sempre.deploy.size_plot import write_size_plot
from sempre.deploy.summary import Summary, summarise
from sempre.errors import InputError, how_to_install, one_line
from sempre.files import file_sha256
from sempre.images import crop_information_bar, field_rows, is_blank, read_micrograph, write_label_png, write_labels
from sempre.images.read import READER_VERSION
from sempre.images.scale_bar_text import Reader
from sempre.images.sidecar import find_sidecars
from sempre.segmentation.particles import write_csv


def write_results(
    base: Path, formats: tuple[str, ...], pixels: np.ndarray, segmentation: Segmentation, full_size: bool = False
) -> None:
    """Write a micrograph's results, each whole or absent, into the folder of `base`, which is made.

    Args:
        base: the path that their names begin with.
        pixels: the micrograph, `[H, W]` as the segmentation's labels.
        full_size: the overlay of a very large micrograph has its size.

    Raises:
        InputError: for a label image that a format cannot hold.
        OSError: for a file that cannot be written.
    """
    base.parent.mkdir(parents=True, exist_ok=True)
    labels, pixel_size_nm = segmentation.labels, segmentation.pixel_size_nm  # along x, as a scale bar lies
    for name, path in zip(formats, result_paths(base, formats), strict=True):
        match name:
            case "tif":
                write_labels(path, labels)
            case "png":
                write_label_png(path, labels)
            case "csv":
                write_csv(path, segmentation.particles, segmentation.pixel_size)
            case "overlay":
                write_overlay(path, pixels, labels, pixel_size_nm, full_size)
            case "rois":
                write_rois(path, labels)


NAMED = 5  # micrographs of a list on the console


@dataclass(frozen=True)
class BatchOptions:
    """Where results go, in which formats, and what is done with each; `overwrite` does again what is done."""

    out: Path
    formats: tuple[str, ...] = USUAL
    score_threshold: float | None = None
    pixel_size_nm: float | tuple[float, float] | None = None  # or a pair, x and y
    crop_information_bar: bool = False
    overwrite: bool = False
    pages: int | Literal["all"] | None = None  # of files that hold several: one, counted from 1, or each
    full_size: bool = False  # of overlays of very large micrographs
    shard: tuple[int, int] | None = None  # (k, n): the k-th of n shares of the micrographs, counted from 1
    report: bool = False  # write report.pdf and report.xlsx beside report.html


@dataclass(frozen=True)
class Job:
    """A micrograph or a page to segment, what the names of its results begin with, and its fingerprint."""

    source: Source
    results: str
    made_from: str

    @property
    def name(self) -> str:
        """What the micrograph is called in messages."""
        return str(PurePosixPath(self.results).parent / self.source.name)


# Does jobs in any order, and gives each back with the columns of its row of the summary.
Run = Callable[[Iterable[Job]], Iterator[tuple[Job, dict[str, str]]]]


def segment_batch(inputs: Inputs, segmenter: Segmenter, options: BatchOptions, scale_bars: Reader | None = None) -> int:
    """Segment every micrograph that is not done yet, one after the other; the exit code: 1 if anything failed, else 0.

    `scale_bars` reads that of a micrograph if nothing else says its pixel size. What fails gives a line on stderr when
    it does, and all of it a list at the end.
    """
    return run_batch(inputs, Batch(options, *in_this_process(segmenter, options, scale_bars)))


def in_this_process(segmenter: Segmenter, options: BatchOptions, scale_bars: Reader | None = None) -> tuple[list, Run]:
    """The settings that a batch's results depend on, and what does its jobs one after the other."""

    def run(jobs: Iterable[Job]) -> Iterator[tuple[Job, dict[str, str]]]:
        for job in jobs:
            yield job, segment_or_fail(job.source, options.out / job.results, segmenter, options, scale_bars)

    return batch_settings(segmenter, options, scale_bars), run


def run_batch(inputs: Inputs, batch: "Batch") -> int:
    """Segment what is meant, or the share of it that the batch's options name; the exit code, as `segment_batch`."""
    for path in inputs.empty:
        tell(f"warning: {path} holds no micrographs")
    if inputs.results:
        tell(f"{len(inputs.results)} results of earlier runs are left out, {inputs.results[0]} the first")
    if inputs.labels:
        tell(
            f"{len(inputs.labels)} files are labels by their names and are left out, {inputs.labels[0]} the first: "
            "rename what is a micrograph"
        )
    batch.segment(inputs.sources, share_of(inputs.sources, batch.options.shard))
    return batch.finish()


class Batch:
    """The results' folder of a batch: what was done in it, and what is added.

    Args:
        options: the folder, which is made, and what is written.
        settings: everything else that the results depend on.
        run: does the jobs.
        watching: files come and go; one that has gone is no failure, and each that is done is told.
    """

    def __init__(self, options: BatchOptions, settings: list, run: Run, watching: bool = False):
        self.options, self.settings, self.run, self.watching = options, settings, run, watching
        options.out.mkdir(parents=True, exist_ok=True)
        self.summary = Summary(options.out / "summary.csv", options.shard)
        self.done_before = 0
        self.named: dict[str, str] = {}  # what was meant: the names of its results, and what messages call it
        self.failures: dict[str, str] = {}  # of files that belong to no single micrograph

    def segment(
        self, everything: Sequence[Source], chosen: Sequence[Source], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Segment the chosen ones of all sources that are there, unless they are done.

        Args:
            everything: on all of them depend the names of the results.
            stopped: asked before each; once it says so the others are left.

        Raises:
            InputError: where the results of two would have one name.
        """
        options = self.options
        names = dict(zip(everything, name_results(everything, self.summary.recorded()), strict=True))
        sources = choose_pages(chosen, options.pages)
        named = name_pages(sources, [names[replace(source, page=None)] for source in sources])
        tables = PageTables(named, names) if options.pages == "all" else None

        # There is no bar where stderr is no terminal.
        with tqdm(total=len(named), unit="micrograph", disable=None, leave=not self.watching) as bar:

            def wanted() -> Iterator[Job]:
                for source, results in named:
                    if stopped():
                        return
                    settings = self.settings if source.page is None else [*self.settings, source.page]
                    job = Job(source, results, _fingerprint(source.path, settings))
                    self.named[results] = job.name
                    if options.overwrite or not _is_done(job, self.summary, options):
                        yield job
                        continue
                    self.done_before += 1
                    bar.update()
                    self._write_pages(tables, source, new=False)

            for job, columns in self.run(wanted()):
                self._record(job, columns)
                bar.update()
                self._write_pages(tables, job.source, new=True)

    def _record(self, job: Job, columns: dict[str, str]) -> None:
        row = {
            "micrograph": str(PurePosixPath(job.results).parent / job.source.path.name),
            "page": "" if job.source.page is None else str(job.source.page),
            "results": job.results,
            "file": str(job.source.path.resolve()),
            "made_from": job.made_from,
        } | columns
        if row.get("error") and self.watching and not job.source.path.exists():
            tell(f"{job.name} has gone before it was segmented")
            self.named.pop(job.results, None)
            return
        if row.get("error"):
            tell(f"error: {job.name}: {row['error']}")
        elif self.watching:
            tell(f"{job.name}: {row['particles']} particles")
        self.summary.add(row)

    def _write_pages(self, tables: PageTables | None, source: Source, new: bool) -> None:
        if tables is None or source.page is None:
            return
        try:
            tables.page_done(source, new, self.options.out, self.summary)
        except (InputError, OSError) as error:
            self.fail(f"the table over the pages of {source.path.name}", one_line(error))

    def fail(self, name: str, message: str) -> None:
        """Count as failed what belongs to no single micrograph, and say so."""
        self.failures[name] = message
        tell(f"error: {name}: {message}")

    def finish(self) -> int:
        """Write the summary and the plot of sizes, say what was done; the exit code, as `segment_batch`."""
        out, shard = self.options.out, self.options.shard
        unwritten = self.summary.close()
        if unwritten:
            self.fail(self.summary.path.name, unwritten)
        if shard is None:  # the others would write the same files
            self._plot_sizes()
            self._write_statistics()
        rows = {name: row for results, name in self.named.items() if (row := self.summary.find(results))}
        done = [row for row in rows.values() if not row["error"]]
        failures = {name: row["error"] for name, row in rows.items() if row["error"]} | self.failures
        particles = sum(int(row["particles"]) for row in done)
        cut = sum(int(row["particles_cut"]) for row in done)
        if cut:
            print(
                f"{cut} of {particles} particles are cut by a border or an information bar: medians and the plot of"
                " sizes leave them out"
            )
        doubted = [row["micrograph"] for row in done if row["doubt"]]
        if doubted:
            print(f"{len(doubted)} of {len(done)} micrographs may hold no particles, see doubt in summary.csv")
        pages = sum(int(row["pages_left_out"]) for row in done)
        if pages:
            print(f"{pages} pages of stacks are left out, see pages_left_out in summary.csv: --page all segments each")
        of_before = f" ({self.done_before} done before)" if self.done_before else ""
        print(f"{particles} particles in {len(done)} micrographs{of_before}, {len(failures)} failed: {out}")
        if shard is not None:
            print(
                f"this was share {shard[0]} of {shard[1]}, see {self.summary.path.name}: when all have ended, the same"
                " command without --shard joins them and plots the sizes"
            )
        if failures:
            tell("failed:", *(f"  {name}: {message}" for name, message in failures.items()))
        return 1 if failures else 0

    def _plot_sizes(self) -> None:
        rows = [row for _, row in sorted(self.summary.rows.items())]
        try:
            left_out = plot_sizes(self.options.out, rows)
        except (InputError, OSError) as error:
            self.fail(SIZE_PLOT, one_line(error))
            return
        if left_out:
            more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
            tell(
                f"warning: the plot of sizes is in nm: it leaves out {len(left_out)} micrographs of unknown pixel size,"
                f" {', '.join(left_out[:NAMED])}{more}: segment them again with --pixel-size"
            )

    def _write_statistics(self) -> None:
        out = self.options.out
        tables = [Table(row, out) for _, row in sorted(self.summary.rows.items())]
        listed = [table for table in tables if table.row["error"] or table.particles.is_file()]
        if all(table.row["error"] for table in listed):
            return
        try:
            print(*write_statistics(out, {out.resolve().name: listed}, more=self.options.report), sep="\n")
        except (InputError, OSError) as error:
            self.fail(PAGE, one_line(error))


def segment_or_fail(
    source: Source, base: Path, segmenter: Segmenter, options: BatchOptions, scale_bars: Reader | None
) -> dict[str, str]:
    """What `segment_micrograph` returns, or, whatever goes wrong, the column `error` alone."""
    try:
        return segment_micrograph(source, base, segmenter, options, scale_bars)
    except Exception as error:  # whatever it is, the other micrographs are none the worse for it
        return {"error": _what_failed(error, source.path)}


def segment_micrograph(
    source: Source, base: Path, segmenter: Segmenter, options: BatchOptions, scale_bars: Reader | None = None
) -> dict[str, str]:
    """Segment a micrograph and write its results, whose names begin with `base`; its columns of the summary.

    Raises:
        InputError: when it cannot be read or segmented.
        OSError: when a result cannot be written.
    """
    micrograph = read_micrograph(source.path, page=source.page)
    left_out = 0 if options.pages == "all" else micrograph.pages - 1
    if left_out:
        tell(
            f"{source.path.name}: page {micrograph.page} of {micrograph.pages} is segmented and {left_out}"
            f" {'is' if left_out == 1 else 'are'} left out: --page N takes another, --page all each"
        )
    pixels = crop_information_bar(micrograph.pixels) if options.crop_information_bar else micrograph.pixels
    if is_blank(pixels):
        tell(f"warning: {source.name} shows a single grey value, in which there is nothing to find")
    size, size_source = find_pixel_size(micrograph, options.pixel_size_nm, scale_bars)
    for warning in (
        square_warning(micrograph, size, options.pixel_size_nm),
        scale_warning(segmenter.bundle, size.mean if size else None, segmenter.scale),
    ):
        if warning:
            tell(f"warning: {source.name}: {warning}")
    with tile_bar(source.name) as progress:
        segmentation = segmenter.segment(pixels, size, options.score_threshold, progress)
    if segmentation.overflowing:
        (x0, y0, x1, y1), tiles = segmentation.overflowing[0], len(segmentation.overflowing)
        tell(
            f"warning: {source.name}: {tiles} tiles hold more particles than the model lists, the first at x {x0}"
            f" to {x1}, y {y0} to {y1} px: some may be missing, record at a higher magnification"
        )
    segmentation = replace(segmentation, labels=in_frame(segmentation.labels, micrograph.pixels.shape))
    write_results(base, options.formats, micrograph.pixels, segmentation, options.full_size)
    row = summarise(segmentation, field=pixels.size)
    if row.get("doubt"):
        tell(f"warning: {source.name} {row['doubt']}: look at its overlay")
    top, bottom = field_rows(pixels)
    return row | {
        "page": str(micrograph.page) if micrograph.pages > 1 else "",
        "pages_left_out": str(left_out),
        "pixel_size_source": size_source,
        "field_height_px": str(bottom - top),
        "instrument": instrument(micrograph.metadata),
        "model": name_model(segmenter.bundle.model),
    }


@lru_cache(maxsize=4)
def name_model(model: Path) -> str:
    """The name of a bundle by its network's file, the beginning of that one's SHA-256, and sempre's version."""
    return f"{model.resolve().parent.name} ({file_sha256(model)[:12]}), sempre {__version__}"


def in_frame(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Labels `[h, w]` of a micrograph whose lower rows were cropped, in its own frame `[H, W]`."""
    return np.pad(labels, [(0, whole - side) for whole, side in zip(shape, labels.shape, strict=True)])


@contextmanager
def tile_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of a micrograph's tiles, moved by being called with those done and those expected."""
    with tqdm(desc=name, unit="tile", leave=False, disable=None, mininterval=0, miniters=1) as bar:

        def show(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)

        yield show


def plot_sizes(out: Path, rows: list[dict[str, str]]) -> list[str]:
    """Plot the sizes that the tables of a summary's rows list, in nm if any pixel size is known, else in px.

    Pixels of different micrographs may be of different sizes. So where some pixel sizes are known, the particles of the
    other micrographs are left out, and these are named. Particles that a border cuts are left out, too. Where none
    remain there is no plot.

    Returns:
        The micrographs with whole particles that are left out, because their pixel size is not known.

    Raises:
        InputError: for a table that is damaged.
        OSError: for one that cannot be read, or a plot that cannot be written.
    """
    tables = {row["results"]: result_paths(out / row["results"], ("csv",))[0] for row in rows if not row["error"]}
    listed = [row for row in rows if row["results"] in tables and tables[row["results"]].is_file()]
    scaled = [row for row in listed if row["pixel_size_nm"]]
    unit, shown = ("nm", scaled) if any(map(_whole_particles, scaled)) else ("px", listed)
    diameters = [read_diameters(tables[row["results"]], unit) for row in shown if _whole_particles(row)]
    if not sum(map(len, diameters)):
        (out / SIZE_PLOT).unlink(missing_ok=True)  # an earlier batch's would be taken for this one's
        return []
    cut = sum(int(row["particles_cut"]) for row in shown)
    write_size_plot(out / SIZE_PLOT, np.concatenate(diameters), unit, len(shown), cut)
    return [row["micrograph"] for row in listed if row not in shown and _whole_particles(row)]


def _whole_particles(row: dict[str, str]) -> int:
    return int(row["particles"]) - int(row["particles_cut"])


def batch_settings(segmenter: Segmenter, options: BatchOptions, scale_bars: Reader | None) -> list:
    """Everything but the micrograph that makes a difference to its results."""
    hashes = [file_sha256(segmenter.bundle.model.with_name(name)) for name in NAMES]
    chosen = [options.score_threshold, options.pixel_size_nm, options.crop_information_bar, options.full_size]
    of_model = [segmenter.tile, segmenter.flips, segmenter.scale]
    return [READER_VERSION, DECODING_VERSION, *hashes, *of_model, *chosen, scale_bars is not None]


def scale_bar_reader(wanted: bool | None, threads: int | None) -> Reader | None:
    """What reads scale bars; None where that is not wanted, or where nobody said and the extra is not installed.

    Raises:
        InputError: where it is wanted, and the extra is not installed.
    """
    if wanted is False:
        return None
    try:
        return Reader(threads)
    except ImportError:
        if wanted:
            raise InputError(f"--scale-bar needs an OCR library: {how_to_install('ocr')}") from None
        return None


def _is_done(job: Job, summary: Summary, options: BatchOptions) -> bool:
    """Whether an earlier run made the same of the same micrograph, and left all its files."""
    done = summary.find(job.results)
    if done is None or done["error"] or done["made_from"] != job.made_from:
        return False
    return all(path.is_file() for path in result_paths(options.out / job.results, options.formats))


def _fingerprint(path: Path, settings: list) -> str:
    """Changes with the file's size or date, the files beside it that tell its scale, and the settings.

    Empty for a file that is not there.
    """
    try:
        status = path.stat()
        sidecars = [file_sha256(sidecar) for sidecar in find_sidecars(path)]
    except OSError:
        return ""
    text = json.dumps([status.st_size, int(status.st_mtime), *settings, *sidecars])
    return f"sempre-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _what_failed(error: Exception, path: Path) -> str:
    if isinstance(error, MemoryError):
        return f"{path} needs more memory than there is: a smaller --tile takes less"
    if isinstance(error, InputError | OSError):
        return one_line(error)
    tell(traceback.format_exc().rstrip())  # a bug of ours, which its report needs
    return f"{path} met a fault of sempre ({type(error).__name__}: {one_line(error)}): please report it"


def tell(*lines: str) -> None:
    """Say on stderr, without breaking a bar of progress."""
    for line in lines:
        tqdm.write(line, file=sys.stderr)
