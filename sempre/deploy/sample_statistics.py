"""Samples of the folders that `sempre segment` and `sempre measure` wrote, and their statistics and reports."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from sempre.deploy.formats import result_paths
from sempre.errors import InputError
from sempre.files import write_csv, write_json
from sempre.sizes.borders import Field, Sample, frame_of_field
from sempre.sizes.uncertainty import CALIBRATION_LIMITS, pixel_size_uncertainty

BAR_EDGE = 2  # rows beside an information bar in which a particle counts as cut, as in sempre.segmentation.particles
STATISTICS, CLASSES, PAGE = "statistics.json", "size_distribution.csv", "report.html"
WRITTEN = (STATISTICS, CLASSES, PAGE)
NEEDED = ("results", "particles", "width_px", "height_px", "pixel_size_nm")  # of a summary
FOUND_LISTED = 5  # different texts that a line of the report lists


@dataclass(frozen=True)
class Table:
    """A micrograph's row of a summary, the results' folder that it is from, and the part of `Sample` that it makes."""

    row: Mapping[str, str]
    folder: Path

    @property
    def particles(self) -> Path:
        """The table of its particles."""
        return result_paths(self.folder / self.row["results"], ("csv",))[0]

    @property
    def overlay(self) -> Path:
        """Its picture with outlines, which may not be there."""
        return result_paths(self.folder / self.row["results"], ("overlay",))[0]


def read_tables(folder: Path) -> list[Table]:
    """The rows of the summaries in a folder, and in the folders below it, of a batch or of its shards.

    Raises:
        InputError: for a folder without any, and for a summary that a spreadsheet has damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give one that sempre segment or sempre measure wrote")
    names = ("summary.csv", "summary_shard_*_of_*.csv", "summary*_new.csv")
    summaries = {file for name in names for file in folder.rglob(name) if file.is_file()}
    tables: dict[Path, Table] = {}
    for summary in sorted(summaries, key=lambda file: file.stat().st_mtime):  # the newest row counts
        with summary.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            try:
                rows = list(csv.DictReader(file))
            except csv.Error as error:
                raise InputError(f"{summary} is no table: {error}") from error
        for row in rows:
            if any(not isinstance(row.get(name), str) for name in NEEDED):
                raise InputError(f"{summary} is no summary of sempre's ({', '.join(NEEDED)}): segment again")
            table = Table(row, summary.parent)
            tables[table.particles] = table
    if not tables:
        raise InputError(f"{folder} holds no summary.csv: give a folder that sempre segment or sempre measure wrote")
    return list(tables.values())


def make_sample(name: str, tables: Sequence[Table]) -> Sample:
    """The sample of some micrographs: in nm of those that have a pixel size, else in px.

    Raises:
        InputError: for a table of particles that is missing or damaged.
    """
    whole = [table for table in tables if not table.row.get("error")]
    unit = "nm" if any(table.row["pixel_size_nm"] for table in whole) else "px"
    used = [table for table in whole if unit == "px" or table.row["pixel_size_nm"]]
    return Sample(
        name,
        unit,
        [read_field(table, unit) for table in used],
        [_label(table) for table in whole if table not in used],
        [_label(table) for table in tables if table.row.get("error")],
    )


def read_field(table: Table, unit: str) -> Field:
    """What one micrograph shows, from its table of particles.

    Tables of earlier versions have no boxes: that of a circle of the same area takes its place.

    Raises:
        InputError: for a table that is missing or damaged.
    """
    row, path = table.row, table.particles
    try:
        columns, rows = int(row["width_px"]), int(row["height_px"])
        field_rows = int(row.get("field_height_px") or rows)
        width, height = frame_of_field(columns, field_rows, BAR_EDGE * (field_rows < rows))
        x = float(row["pixel_size_nm"]) if unit == "nm" else 1.0
        y = float(row.get("pixel_size_y_nm") or x) if unit == "nm" else 1.0
        with path.open(newline="", encoding="utf-8") as file:
            listed = list(csv.DictReader(file))
        columns_of = {name: _column(listed, f"{name}_{unit}") for name in ("equivalent_diameter", "feret_min")}
        diameter = columns_of["equivalent_diameter"]
        boxes = [_optional(listed, f"box_{side}_{unit}") for side in ("width", "height")]
        cut = np.array([bool(int(one["touches_border"])) for one in listed], bool)
        low, high = (_optional(listed, f"equivalent_diameter_{end}_{unit}") for end in ("low", "high"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): segment again with csv in --format") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is no table of particles in {unit} ({error}): segment again with --overwrite"
        ) from error
    if not np.all(np.isfinite(diameter) & (diameter > 0)):
        raise InputError(f"{path} lists an equivalent_diameter_{unit} that is no size: segment again with --overwrite")
    return Field(
        _label(table),
        width * x,
        height * y,
        math.sqrt(x * y),
        diameter,
        columns_of["feret_min"],
        diameter if boxes[0] is None else boxes[0],
        diameter if boxes[1] is None else boxes[1],
        cut,
        low,
        high,
        row.get("pixel_size_source", ""),
    )


def _column(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows], float)


def _optional(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray | None:
    """A column that may be missing or empty."""
    if any(not row.get(name) for row in rows):
        return None
    return _column(rows, name)


def _label(table: Table) -> str:
    page = table.row.get("page")
    name = table.row.get("micrograph") or table.row["results"]
    return f"{name}, page {page}" if page else name


def group(tables: Sequence[tuple[Path, Table]], by: str, groups: Path | None = None) -> dict[str, list[Table]]:
    """Tables by the name of their sample.

    Args:
        tables: each with the folder that was named and holds it.
        by: "all", "folder" (each that was named is a sample) or "subfolder" (each folder of micrographs is one).
        groups: a CSV with the columns micrograph and sample; it wins.

    Raises:
        InputError: for a CSV that is damaged, or names none of the micrographs.
    """
    if groups is not None:
        return _group_by_file([table for _, table in tables], groups)
    found: dict[str, list[Table]] = {}
    for folder, table in tables:
        below = PurePosixPath(table.folder.relative_to(folder).as_posix()) / table.row["results"]
        match by:
            case "folder":
                name = folder.resolve().name or str(folder)
                if sum(1 for other in {one for one, _ in tables} if other.resolve().name == name) > 1:
                    name = str(folder)
            case "subfolder":
                name = str(below.parent) if below.parent.name else folder.resolve().name
            case _:
                name = "all"
        found.setdefault(name, []).append(table)
    return found


def _group_by_file(tables: Sequence[Table], groups: Path) -> dict[str, list[Table]]:
    try:
        with groups.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        named = {row["micrograph"].strip().casefold(): row["sample"].strip() for row in rows}
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, csv.Error) as error:
        raise InputError(f"--groups {groups} is no CSV with the columns micrograph and sample: {error}") from error
    found: dict[str, list[Table]] = {}
    for table in tables:
        micrograph = PurePosixPath(table.row.get("micrograph") or table.row["results"])
        keys = [str(micrograph), micrograph.name, micrograph.stem, table.row["results"]]
        name = next((named[key.casefold()] for key in keys if key.casefold() in named), "")
        if name:
            found.setdefault(name, []).append(table)
    if not found:
        raise InputError(
            f"--groups {groups} names none of the {len(tables)} micrographs: look at its column micrograph"
        )
    return found


def write_statistics(out: Path, samples: Mapping[str, Sequence[Table]], choices=None, more: bool = False) -> list[str]:
    """Write `statistics.json`, `size_distribution.csv` and `report.html`, with `more` `report.pdf` and `report.xlsx`.

    Returns:
        A line for the console of each sample, as in "D50 = 52.1 nm (49.8 to 54.5 nm), from 812 particles …".

    Raises:
        InputError: for a table that is missing or damaged.
        OSError: for a file that cannot be written.
    """
    from sempre import __version__
    from sempre.sizes import report
    from sempre.sizes.analysis import Choices, analyse, as_json, class_rows, compare_samples
    from sempre.sizes.uncertainty import LEVEL

    choices = choices or Choices()
    if more:
        report.check_workbook()
    made = {name: make_sample(name, tables) for name, tables in samples.items()}
    results = {name: analyse(sample, choices) for name, sample in made.items()}
    chosen = [by_rule[choices.rule] for by_rule in results.values() if choices.rule in by_rule]
    comparisons = compare_samples(chosen)
    provenance = {
        name: report.Provenance(facts_of(made[name], tables, choices), overlays_of(tables))
        for name, tables in samples.items()
    }
    described = [
        as_json(results[name], sample, choices) | {"measurement": provenance[name].facts}
        for name, sample in made.items()
    ]
    value = {
        "sempre": __version__,
        "level": LEVEL,
        "samples": described,
        "comparisons": [vars(one) for one in comparisons],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / STATISTICS, value)
    write_csv(out / CLASSES, [row for by_rule in results.values() for row in class_rows(by_rule)])
    report.write_report(out / PAGE, results, provenance, comparisons, choices)
    if more:
        report.write_pdf(out / "report.pdf", results, provenance, comparisons, choices)
        report.write_workbook(out / "report.xlsx", results, provenance, comparisons, choices)
    lines = []
    for name, by_rule in results.items():
        said = report.headline(by_rule[choices.rule]) if choices.rule in by_rule else "no particle counts"
        lines.append(said if len(results) == 1 else f"{name}: {said}")
    return lines


def facts_of(sample: Sample, tables: Sequence[Table], choices) -> dict[str, str]:
    """What a sample's measurement rests on: a text by its name, in the order of the report."""
    from sempre.sizes.report import RULE_NAMES

    whole = [table.row for table in tables if not table.row.get("error")]
    sizes = sorted({row["pixel_size_nm"] for row in whole if row["pixel_size_nm"]}, key=float)
    sources = sorted({row.get("pixel_size_source") or "" for row in whole if row["pixel_size_nm"]})
    unsure = [pixel_size_uncertainty(source, choices.pixel_size_uncertainty) for source in sources]
    size = {0: "none", 1: f"{sizes[0]} nm per px" if sizes else ""}.get(
        len(sizes), f"{sizes[0]} to {sizes[-1]} nm per px" if sizes else ""
    )
    assumed = ""
    if choices.pixel_size_uncertainty is None:
        assumed = f". That the microscope's scale is right within ± {CALIBRATION_LIMITS:.0%} is assumed, not measured"
    smallest = f"{choices.smallest_px:g} px" if choices.smallest_px else "none"
    excluded = [f"{len(sample.failed)} that could not be segmented: {_listed(sample.failed)}"] if sample.failed else []
    if sample.without_scale:
        excluded.append(f"{len(sample.without_scale)} without a pixel size: {_listed(sample.without_scale)}")
    return {
        "Micrographs": f"{len(sample.fields)} of {len(tables)}",
        "Left out": "; ".join(excluded) or "none",
        "Instrument and settings": _listed(_texts(whole, "instrument")) or "the files do not say",
        "Pixel size": size,
        "Calibration": f"{_listed([source for source in sources if source])}; relative standard uncertainty"
        f" {max(unsure):.2%}{assumed}"
        if unsure
        else "none",
        "Model": _listed(_texts(whole, "model")) or "not recorded",
        "Counting rule": f"{RULE_NAMES[choices.rule]} (Miles-Lantuéjoul)"
        if choices.rule == "weighted"
        else RULE_NAMES[choices.rule],
        "Lower limit of size": smallest,
        "Area and volume": "of the circle and the sphere whose diameter is the equivalent diameter",
    }


def _texts(rows: Sequence[Mapping[str, str]], name: str) -> list[str]:
    return sorted({row.get(name) or "" for row in rows} - {""})


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - FOUND_LISTED} more" if len(texts) > FOUND_LISTED else ""
    return "; ".join(texts[:FOUND_LISTED]) + more


def overlays_of(tables: Sequence[Table]) -> dict[str, Path]:
    """The overlays with the median number of particles, the most and the fewest, by their captions; each shown once."""
    there = [table for table in tables if not table.row.get("error") and table.overlay.is_file()]
    there.sort(key=lambda table: int(table.row["particles"]))
    if not there:
        return {}
    chosen: dict[Path, str] = {}
    for place, what in ((len(there) // 2, "typical"), (-1, "most particles"), (0, "fewest particles")):
        table = there[place]
        chosen.setdefault(table.overlay, f"{what}: {_label(table)}, {table.row['particles']} particles")
    return {caption: path for path, caption in chosen.items()}


def instrument(metadata: Mapping) -> str:
    """The microscope and its settings in one line, as far as a file's metadata give them; "" where they do not."""
    flat: dict[str, str] = {}

    def walk(values: Mapping, above: str = "") -> None:
        for name, value in values.items():
            if isinstance(value, Mapping):
                walk(value, str(name))
            else:
                flat.setdefault(f"{above}.{name}".strip(".").casefold(), str(value))

    walk(metadata)
    said = [
        next((flat[key] for key in ("system.systemtype", "system.type", "microscope") if flat.get(key)), ""),
        _quantity(flat, ("beam.hv", "ebeam.hv"), 1e-3, "kV"),
        _quantity(flat, ("stage.workingdistance", "ebeam.wd"), 1e3, "mm working distance"),
        next((f"detector {flat[key]}" for key in ("detectors.name", "detector") if flat.get(key)), ""),
        next((flat[key] for key in ("user.date", "date") if flat.get(key)), ""),
    ]
    return re.sub(r"[^\w\s.,:;/()+µ-]", " ", ", ".join(filter(None, said)))[:200]


def _quantity(flat: Mapping[str, str], keys: Sequence[str], factor: float, unit: str) -> str:
    for key in keys:
        try:
            value = float(flat[key]) * factor
        except (KeyError, ValueError):
            continue
        if math.isfinite(value) and value > 0:
            return f"{value:.3g} {unit}"
    return ""
