"""`summary.csv`: a row for each micrograph, on disk as soon as its results are; what it says is done is not redone."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sempre.deploy.formats import SUFFIXES, result_paths
from sempre.deploy.inputs import name_of_file
from sempre.deploy.segmenter import Segmentation
from sempre.errors import one_line
from sempre.files import whole_or_absent
from sempre.segmentation.calibration import SUREST, is_doubtful

COLUMNS: tuple[str, ...] = (
    "micrograph",
    "page",  # counted from 1, of a file that holds several
    "pages_left_out",  # of the file, which are in no other row unless they were segmented too
    "width_px",
    "height_px",
    "field_height_px",  # without information bars
    "pixel_size_nm",  # along x
    "pixel_size_y_nm",
    "pixel_size_source",
    "particles",
    "particles_cut",  # by a border or an information bar: the medians leave them out
    "expected_particles",  # of those, how many are real by their probabilities; empty without a calibration
    "doubt",  # why the micrograph may hold no particles at all
    "covered_share",
    "median_equivalent_diameter_px",
    "median_equivalent_diameter_nm",
    "overflowing_tiles",
    "instrument",  # and its settings, as far as the file says
    "model",  # that found the particles
    "error",
    "results",  # what the names of its results begin with
    "file",  # the micrograph's absolute path
    "made_from",  # tells whether the micrograph, the model or an option that matters has changed since
)
NAMES = "surrogateescape"  # Linux allows names of files that are no UTF-8: they are kept byte for byte


class Summary:
    """The rows of a results' folder, by what the names of the results begin with.

    A file that cannot be written, because it is open in a spreadsheet, stops nothing: rows wait, and if it is
    still so at the end they go to `summary_new.csv`, which the next run takes in.
    """

    def __init__(self, path: Path, shard: tuple[int, int] | None = None):
        """With `shard`, the k-th of n, the rows go to a file of its own beside `path`, and what other shards and
        earlier runs did is only looked up. Without, the rows of all shards are taken in and their files removed."""
        self.path = path if shard is None else path.with_name(f"{path.stem}_shard_{shard[0]}_of_{shard[1]}.csv")
        self.spare = self.path.with_name(f"{self.path.stem}_new{path.suffix}")
        files = summary_files(path)
        own = files if shard is None else [file for file in files if file in (self.path, self.spare)]
        self.rows = rows_with_results(own)
        self.others = {} if shard is None else rows_with_results([file for file in files if file not in own])
        self.joined = [file for file in own if file not in (self.path, self.spare)]
        self.written = self._try_to_write() is None

    def recorded(self) -> dict[str, str]:
        """What the names of a file's results begin with, and the absolute path of the file, if it is still there."""
        return {
            name_of_file(row["results"], row["page"], row["micrograph"]): row["file"]
            for row in [*self.others.values(), *self.rows.values()]
            if Path(row["file"]).is_file()
        }

    def find(self, results: str) -> dict[str, str] | None:
        """The row of the results whose names begin so."""
        return self.rows.get(results.casefold()) or self.others.get(results.casefold())

    def add(self, row: dict[str, str]) -> None:
        """Add a row, in the place of an earlier one of the same results."""
        row = {column: row.get(column, "") for column in COLUMNS}
        self.rows[row["results"].casefold()] = row
        try:
            if self.written:
                with self.path.open("a", newline="", encoding="utf-8", errors=NAMES) as file:
                    csv.DictWriter(file, COLUMNS).writerow(row)
                    file.flush()
                    os.fsync(file.fileno())
            else:
                self.written = self._try_to_write() is None
        except OSError:
            self.written = False

    def close(self) -> str | None:
        """Write all rows, sorted, each once; if that fails, what went wrong in one sentence."""
        error = self._try_to_write()
        if error is None:
            return None
        try:
            self._write(self.spare)
        except OSError:
            return error
        return f"{error}; the summary is in {self.spare} until the next run"

    def _try_to_write(self) -> str | None:
        try:
            self._write(self.path)
            for file in (self.spare, *self.joined):
                file.unlink(missing_ok=True)
        except OSError as error:
            return one_line(error)
        return None

    def _write(self, path: Path) -> None:
        with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8", errors=NAMES) as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows[results] for results in sorted(self.rows))


def summary_files(path: Path) -> list[Path]:
    """The summary at `path`, the one that waits for it and those of shards, from the oldest to the newest."""
    shards = [file for file in path.parent.glob(f"{path.stem}_shard_*_of_*.csv") if file.is_file()]
    shards.sort(key=lambda file: (file.stat().st_mtime_ns, file.name))
    return [path, path.with_name(f"{path.stem}_new{path.suffix}"), *shards]


def rows_with_results(files: Iterable[Path]) -> dict[str, dict[str, str]]:
    """The rows without an error whose results are still there, by the names of these in lower case.

    Of two rows of the same results the one in the later file counts.
    """
    rows = {}
    for file in files:
        for row in read_rows(file):
            results = result_paths(file.parent / row["results"], tuple(SUFFIXES))
            if not row["error"] and any(result.exists() for result in results):
                rows[row["results"].casefold()] = row
    return rows


def read_rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a summary; none of a file that is missing, of another make, or changed by a spreadsheet."""
    try:
        with path.open(newline="", encoding="utf-8", errors=NAMES) as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return [row for row in rows if set(row) == set(COLUMNS) and None not in row.values()]


def summarise(segmentation: Segmentation, field: int) -> dict[str, str]:
    """The columns that a segmentation fills; `field` is how many px of the micrograph were looked at."""
    height, width = segmentation.labels.shape
    whole = [particle.equivalent_diameter for particle in segmentation.particles if not particle.touches_border]
    row = {
        "width_px": str(width),
        "height_px": str(height),
        "particles": str(len(segmentation.particles)),
        "particles_cut": str(len(segmentation.particles) - len(whole)),
        "covered_share": f"{np.count_nonzero(segmentation.labels) / field:.4f}",
        "overflowing_tiles": str(len(segmentation.overflowing)),
    }
    known = [particle.probability for particle in segmentation.particles if particle.probability is not None]
    if known:
        row["expected_particles"] = f"{sum(known):.1f}"
        if is_doubtful(np.array(known)):
            surest = np.quantile(known, SUREST)
            row["doubt"] = f"may hold no particles: nine of ten that were found are {surest:.0%} probable at most"
    size = segmentation.pixel_size
    if size is not None:
        row |= {"pixel_size_nm": f"{size.x:.6g}", "pixel_size_y_nm": f"{size.y:.6g}"}
    if whole:
        median = float(np.median(whole))
        row["median_equivalent_diameter_px"] = f"{median:.6g}"
        if size is not None:
            row["median_equivalent_diameter_nm"] = f"{median * size.mean:.6g}"
    return row
