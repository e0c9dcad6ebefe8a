"""Segment a batch of micrographs: one that fails stops no other, and what is done is not done again."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from sempre.deploy.bundle import NAMES
from sempre.deploy.formats import SIZE_PLOT, result_paths
from sempre.deploy.inputs import Inputs, Source, choose_pages, name_pages, name_results, share_of
from sempre.deploy.micrograph_results import BatchOptions, segment_or_fail, tell
from sempre.deploy.pages import PageTables
from sempre.deploy.sample_statistics import PAGE, Table, write_statistics
from sempre.deploy.segmenter import DECODING_VERSION, Segmenter
from sempre.deploy.size_plot import plot_sizes
from sempre.deploy.summary import Summary
from sempre.errors import InputError, how_to_install, one_line
from sempre.files import file_sha256
from sempre.images.read import READER_VERSION
from sempre.images.scale_bar_text import Reader
from sempre.images.sidecar import find_sidecars

NAMED = 5  # micrographs of a list on the console


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
