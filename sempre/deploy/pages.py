"""The table over the pages of a stack or a time series: `<stem>_pages.csv`, a row for each page with its statistics."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sempre.deploy.formats import pages_path, result_paths
from sempre.deploy.inputs import Source
from sempre.deploy.summary import NAMES, Summary
from sempre.errors import InputError
from sempre.files import whole_or_absent
from sempre.images.page_times import page_times

PERCENTILES = (10, 50, 90)
STATISTICS = ("mean", "sd", *(f"d{share}" for share in PERCENTILES))
UNITS = ("px", "nm")
COLUMNS = (
    "page",  # counted from 1
    "time_s",  # since the first page, where the file has it
    "particles",
    "particles_cut",  # by a border or an information bar: the sizes leave them out
    "covered_share",
    "pixel_size_nm",
    *(f"{statistic}_{unit}" for unit in UNITS for statistic in STATISTICS),  # of equivalent diameters, by number
    "error",
)


class PageTables:
    """Writes the table of each file as soon as all of its pages are done.

    Args:
        named: the pages of a batch with the names of their results.
        names: by file, what the names of all its results begin with.
    """

    def __init__(self, named: Sequence[tuple[Source, str]], names: Mapping[Source, str]):
        self.names = names
        self.pages: dict[Source, list[tuple[int, str]]] = {}
        for source, results in named:
            if source.page is not None:
                self.pages.setdefault(replace(source, page=None), []).append((source.page, results))
        self.waiting = Counter({file: len(pages) for file, pages in self.pages.items()})
        self.changed: set[Source] = set()

    def page_done(self, source: Source, new: bool, out: Path, summary: Summary) -> None:
        """Note that a page is done, `new` unless an earlier run did it; its summary's row is there.

        Raises:
            InputError: for a table of particles that is damaged.
            OSError: for one that cannot be read, or a table that cannot be written.
        """
        file = replace(source, page=None)
        self.waiting[file] -= 1
        if new:
            self.changed.add(file)
        path = pages_path(out / self.names[file])
        if self.waiting[file] == 0 and (file in self.changed or not path.is_file()):
            write_pages(path, file.path, [(page, summary.find(results)) for page, results in self.pages[file]], out)


def write_pages(path: Path, file: Path, rows: Sequence[tuple[int, dict[str, str] | None]], out: Path) -> None:
    """Write the table of a file's pages, whole or absent.

    Args:
        rows: each page's number with its row of the summary.
        out: the folder that the summary lies in.

    Raises:
        InputError: for a table of particles that is damaged.
        OSError: for one that cannot be read, or a table that cannot be written.
    """
    times = page_times(file)
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8", errors=NAMES) as target:
        writer = csv.DictWriter(target, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        for page, row in rows:
            time = times[page - 1] if page <= len(times) else None
            columns = {"page": str(page), "time_s": "" if time is None else f"{time:.6g}"}
            if row is not None and row["error"]:
                columns["error"] = row["error"]
            elif row is not None:
                columns = row | columns | page_sizes(row, result_paths(out / row["results"], ("csv",))[0])
            writer.writerow(columns)


def page_sizes(row: Mapping[str, str], table: Path) -> dict[str, str]:
    """The statistics of a page's equivalent diameters, in px and, where its pixel size is known, in nm.

    Particles that a border cuts are left out. Where no table of particles was written, only the median is known.

    Raises:
        InputError: for a table of particles that is damaged.
        OSError: for one that cannot be read.
    """
    columns = {}
    for unit in UNITS if row["pixel_size_nm"] else UNITS[:1]:
        if not table.is_file():
            columns[f"d50_{unit}"] = row[f"median_equivalent_diameter_{unit}"]
        elif len(diameters := read_diameters(table, unit)):
            values = [diameters.mean(), diameters.std(ddof=1) if len(diameters) > 1 else None]
            values += list(np.percentile(diameters, PERCENTILES))
            named = zip(STATISTICS, values, strict=True)
            columns |= {f"{name}_{unit}": "" if value is None else f"{value:.6g}" for name, value in named}
    return columns


def read_diameters(table: Path, unit: str) -> np.ndarray:
    """The equivalent diameters `[N]` that a table of particles lists, in nm or px, without those that a border cuts.

    Raises:
        InputError: for a table without them.
    """
    column = f"equivalent_diameter_{unit}"
    with table.open(newline="", encoding="utf-8") as file:
        try:
            rows = [row for row in csv.DictReader(file) if not int(row["touches_border"])]
            return np.array([float(row[column]) for row in rows])
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise InputError(f"{table} lists no {column}: segment again with --overwrite") from error
