"""`report.html`: one file that a laboratory can keep and sign; `report.pdf` and `report.xlsx` say the same."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from PIL import Image

from sempre import __version__
from sempre.errors import InputError, how_to_install
from sempre.files import whole_or_absent
from sempre.sizes.analysis import Choices, Result, class_rows
from sempre.sizes.borders import RULES, Rule
from sempre.sizes.comparison import Comparison
from sempre.sizes.distributions import TYPES
from sempre.sizes.report_figures import DPI, draw_distribution, draw_fits, draw_overlaid, draw_settling
from sempre.sizes.uncertainty import LEVEL, Interval, particles_needed

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 960px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h3 { font-size: 1em; margin: 1.5em 0 .3em; }
h2 { font-size: 1.25em; margin-top: 2.2em; border-bottom: 1px solid #ccc; }
.headline { font-size: 1.35em; margin: .6em 0; } .note { color: #555; font-size: .9em; }
table { border-collapse: collapse; margin: .6em 0 1em; } td, th { padding: .2em .8em; border-bottom: 1px solid #eee; }
th, td { text-align: right; vertical-align: top; } th { font-weight: 600; }
th:first-child, td:first-child, table.text td { text-align: left; }
img { max-width: 100%; } figure { margin: 0 0 1em; } figcaption { font-size: .85em; color: #555; }
.row { display: flex; gap: 8px; } .row figure { flex: 1; min-width: 0; }
@media print { body { max-width: none; margin: 0; } h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""
RULE_NAMES = {"weighted": "cut particles left out, the others weighted", "all": "all particles, as they are visible"}
FIGURES = {
    "D10": "D10 by number",
    "D50": "D50 by number (median)",
    "D90": "D90 by number",
    "mode": "mode by number",
    "span": "span by number, (D90 − D10) / D50",
    "mean": "mean by number",
    "standard_deviation": "standard deviation by number",
    "geometric_mean": "geometric mean",
    "GSD": "geometric standard deviation",
    "D[3,2]": "D[3,2], Sauter",
    "D[4,3]": "D[4,3], De Brouckere",
    "DV10": "D10 by volume",
    "DV50": "D50 by volume",
    "DV90": "D90 by volume",
    "span_volume": "span by volume",
}
COVERAGE = (
    f"Intervals are made for {LEVEL:.0%}. In simulations those by number held in 90 % of cases or more, those by"
    " volume and of the GSD less often, down to 84 %."
)
BARE = ("span", "GSD", "span_volume")  # have no unit


@dataclass(frozen=True)
class Provenance:
    """What a sample's measurement rests on: lines of a name and a text; overlays by their captions."""

    facts: dict[str, str] = field(default_factory=dict)
    overlays: dict[str, Path] = field(default_factory=dict)


def write_report(
    path: Path,
    results: Mapping[str, Mapping[Rule, Result]],
    provenance: Mapping[str, Provenance],
    comparisons: Sequence[Comparison],
    choices: Choices,
) -> None:
    """Write the page. Whole or absent.

    Args:
        results: by the sample's name, then by rule; those of a sample without particles are empty.
        provenance: by the sample's name.
    """
    title = "Size distribution" if len(results) == 1 else f"Size distributions of {len(results)} samples"
    parts = [f"<h1>{title}</h1>", f'<p class="note">sempre {__version__}. {COVERAGE}</p>']
    chosen = [by_rule[choices.rule] for by_rule in results.values() if choices.rule in by_rule]
    if len(results) > 1:
        parts += _comparison_parts(chosen, comparisons)
    for name, by_rule in results.items():
        if len(results) > 1:
            parts.append(f"<h2>{html.escape(name)}</h2>")
        parts += _sample_parts(by_rule, provenance.get(name, Provenance()), choices)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    with whole_or_absent(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")


def _sample_parts(by_rule: Mapping[Rule, Result], provenance: Provenance, choices: Choices) -> list[str]:
    facts = table(("", ""), [(name, text) for name, text in provenance.facts.items() if text], text=True)
    overlays = [_picture(path, caption) for caption, path in provenance.overlays.items()]
    shown = [f'<div class="row">{"".join(overlays)}</div>'] if overlays else []
    result = by_rule.get(choices.rule) or next(iter(by_rule.values()), None)
    if result is None:
        return ["<p>No particle counts under the rules below.</p>", facts, *shown]
    unit = result.sample.unit
    parts = [f'<p class="headline">{html.escape(headline(result))}</p>', _notes(result)]
    parts += ["<h3>What was measured, and how</h3>", facts, *shown]
    parts += ["<h3>Figures</h3>", table(*figure_table(by_rule, choices.rule))]
    parts += [_picture(draw_distribution(result), "Shares of each class by number, area and volume.")]
    parts += [_picture(draw_distribution(result, cumulative=True), "Cumulative, with lines at 10, 50 and 90 %.")]
    parts += ["<h3>Uncertainty</h3>", table(*budget_table(result)), f"<p>{html.escape(_enough(result))}</p>"]
    if len(result.settling.micrographs) > 1:
        parts.append(
            _picture(
                draw_settling(result), "D50 after so many micrographs: the mean of random orders, and 90 % of them."
            )
        )
    for power in (0, 3):
        if result.fits[power]:
            best = result.fits[power][0]
            parts += [f"<h3>Models of the distribution by {TYPES[power]}</h3>", table(*fit_table(result, power))]
            parts.append(
                f"<p>{best.model} suits best; it is off by {100 * best.largest:.1f} percentage points at the most.</p>"
            )
            parts.append(_picture(draw_fits(result, power), "Measured and fitted, and what is left."))
    parts += ["<h3>Classes</h3>", table(*class_table(by_rule, result.rule))]
    parts.append(f'<p class="note">Sizes are equivalent diameters in {unit}; densities q per {unit}.</p>')
    return parts


def headline(result: Result) -> str:
    """As in "D50 = 52.1 nm (49.8 to 54.5 nm), from 812 particles in 12 micrographs"."""
    fields = result.counted.fields
    interval = result.intervals["D50"]
    unit = result.sample.unit
    return (
        f"D50 = {rounded(interval.value, interval)} {unit} ({rounded(interval.low, interval)} to"
        f" {rounded(interval.high, interval)} {unit}), from {len(result.counted):,}"
        f" particle{'s' * (len(result.counted) != 1)} in {fields} micrograph{'s' * (fields != 1)}"
    )


def rounded(value: float, interval: Interval | None = None) -> str:
    """With as many digits as the interval leaves: its half width has two that count. Else with three digits."""
    from math import floor, log10

    if interval is None or not interval.high > interval.low or not value:
        return f"{value:.3g}"
    digits = 1 - floor(log10((interval.high - interval.low) / 2))
    return f"{value:.{digits}f}" if digits > 0 else f"{round(value, digits):.0f}"


def _notes(result: Result) -> str:
    notes = []
    counted = result.counted
    if result.drawn.by == "particles":
        notes.append(
            "There is a single micrograph, so nothing is known of how micrographs differ: the intervals are over its"
            " particles and too narrow."
        )
    elif counted.fields < 5:
        notes.append(f"There are only {counted.fields} micrographs: the intervals are wide for that reason.")
    if counted.wide:
        notes.append(
            f"{counted.wide} particles are wider than half of the field. Their weights are large and uncertain:"
            " record at a lower magnification."
        )
    if result.sample.unit == "px":
        notes.append("No micrograph has a pixel size: sizes are in px, and comparable only at one magnification.")
    if result.sample.without_scale:
        notes.append(f"{len(result.sample.without_scale)} micrographs without a pixel size are left out.")
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)


def _enough(result: Result) -> str:
    gsd, counted = result.figures["GSD"], len(result.counted)
    number, volume = particles_needed(gsd), particles_needed(gsd, power=3)
    return (
        f"If particles were independent and log-normal with this GSD, {number:,.0f} would give D50 by number within"
        f" ± 5 % and {volume:,.0f} that by volume (after Masuda and Iinoya 1971). {counted:,} were counted."
    )


def figure_table(by_rule: Mapping[Rule, Result], first: Rule) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows: each figure under both rules, the chosen one first, with intervals where there are any."""
    rules: list[Rule] = sorted((rule for rule in RULES if rule in by_rule), key=lambda rule: rule != first)
    unit = next(iter(by_rule.values())).sample.unit
    rows: list[Sequence[str]] = []
    counts = {
        "particles that count": lambda result: f"{len(result.counted):,}",
        "cut by a border": lambda result: f"{result.counted.cut:,}",
        "below the lower limit": lambda result: f"{result.counted.small:,}",
    }
    rows += [(name, *(text(by_rule[rule]) for rule in rules)) for name, text in counts.items()]
    for name, label in FIGURES.items():
        cells = []
        for rule in rules:
            interval = by_rule[rule].intervals.get(name)
            value = rounded(by_rule[rule].figures[name], interval)
            limits = f" ({rounded(interval.low, interval)} to {rounded(interval.high, interval)})" if interval else ""
            cells.append(value + limits)
        rows.append((label if name in BARE else f"{label} ({unit})", *cells))
    if unit == "nm":
        cells = []
        for rule in rules:
            nano = by_rule[rule].nano
            cells.append("" if nano is None else f"{nano.value:.1%} ({nano.low:.1%} to {nano.high:.1%})")
        rows.append(("particles below 100 nm by smallest Feret", *cells))
    return ("", *(RULE_NAMES[rule] for rule in rules)), rows


def budget_table(result: Result) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows: the relative standard uncertainties of the figures that are quoted most, and the interval."""
    header = ("standard uncertainty", "micrographs", "pixel size", "outlines", "interval")
    rows = []
    for name in ("D10", "D50", "D90", "mean", "GSD", "D[3,2]", "D[4,3]", "DV50"):
        interval = result.intervals[name]
        outline = "not known" if interval.outline is None else f"{interval.outline:.2%}"
        limits = f"{interval.low / interval.value - 1:+.1%} to {interval.high / interval.value - 1:+.1%}"
        rows.append((FIGURES[name], f"{interval.sampling:.2%}", f"{interval.pixel_size:.2%}", outline, limits))
    return header, rows


def fit_table(result: Result, power: int) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows: the models, the best first."""
    rows = []
    for fit in result.fits[power]:
        parameters = ", ".join(f"{name} = {value:.4g}" for name, value in fit.parameters.items())
        rows.append((fit.model, parameters, f"{100 * fit.rms:.2f}", f"{100 * fit.largest:.1f}"))
    return ("model", "parameters", "RMS residual (points)", "largest (points)"), rows


def class_table(by_rule: Mapping[Rule, Result], rule: Rule) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows of `size_distribution.csv` under one rule."""
    rows = [row for row in class_rows(dict(by_rule)) if row["rule"] == rule]
    header = ["lower", "upper", "particles", *(name for power in TYPES for name in (f"q{power}", f"Q{power}"))]
    return header, [[_short(row[name]) for name in header] for row in rows]


def _short(text: str) -> str:
    return text if text.isdigit() else f"{float(text):.4g}"


def _comparison_parts(chosen: Sequence[Result], comparisons: Sequence[Comparison]) -> list[str]:
    parts = [f'<p class="headline">{html.escape(one.sample.name)}: {html.escape(headline(one))}</p>' for one in chosen]
    together = [one for one in chosen if one.sample.unit == chosen[0].sample.unit]
    if len(together) < 2:
        return parts
    parts += ["<h2>Comparison</h2>", _picture(draw_overlaid(together), "The samples' cumulative curves.")]
    return [*parts, table(*comparison_table(comparisons, together[0].sample.unit))]


def comparison_table(comparisons: Sequence[Comparison], unit: str) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows: a pair of samples each."""
    header = ("samples", f"D50, difference ({unit})", "ratio", "DV50, ratio", "KS distance", "its p", "Mann-Whitney p")
    rows = []
    for one in comparisons:
        difference, low, high = one.difference["D50"]
        rows.append(
            (
                f"{one.second} against {one.first}",
                f"{difference:+.3g} ({low:+.3g} to {high:+.3g})",
                *("{:.3g} ({:.3g} to {:.3g})".format(*one.ratio[name]) for name in ("D50", "DV50")),
                f"{one.distance:.3f}",
                *("" if p is None else f"{p:.3g}" for p in (one.distance_p, one.mann_whitney_p)),
            )
        )
    return header, rows


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text: bool = False) -> str:
    """A table of HTML; the first column is text, the others are numbers, or with `text` text as well."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header) if any(header) else ""
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = ' class="text"' if text else ""
    return f"<table{kind}><tr>{head}</tr>{body}</table>"


def _picture(source: Figure | Path, caption: str) -> str:
    """A figure as PNG, or a picture file as JPEG of at most 900 px."""
    buffer, kind, width = io.BytesIO(), "png", ""
    if isinstance(source, Figure):
        source.savefig(buffer, format="png", dpi=DPI)
        width = f' style="width: {source.get_figwidth() * 25.4 * 4.9:.0f}px"'  # so that letters have one size
    else:
        kind = "jpeg"
        with Image.open(source) as image:
            small = image.convert("RGB")
        small.thumbnail((900, 900))
        small.save(buffer, format="JPEG", quality=85, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}"{width} src="data:image/{kind};base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def check_workbook() -> None:
    """Raise where the library of XLSX files is not installed.

    Raises:
        InputError: saying how to install it.
    """
    try:
        import openpyxl  # noqa: F401 - whether it is there
    except ImportError:
        raise InputError(f"--report needs openpyxl for XLSX: {how_to_install('report')}") from None


def write_workbook(
    path: Path,
    results: Mapping[str, Mapping[Rule, Result]],
    provenance: Mapping[str, Provenance],
    comparisons: Sequence[Comparison],
    choices: Choices,
) -> None:
    """Write `report.xlsx`: sheets of figures, classes and provenance. Whole or absent."""
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.worksheets[0])
    figures = book.create_sheet("figures")
    figures.append(["sample", "rule", "unit", "figure", "value", "low", "high"])
    classes = book.create_sheet("classes")
    facts = book.create_sheet("measurement")
    facts.append(["sample", "what", ""])
    header = None
    for name, by_rule in results.items():
        for rule, result in by_rule.items():
            for figure, value in result.figures.items():
                interval = result.intervals.get(figure)
                limits = (interval.low, interval.high) if interval else (None, None)
                figures.append([_cell(name), rule, result.sample.unit, FIGURES[figure], value, *limits])
        for row in class_rows(dict(by_rule)):
            if header is None:
                header = list(row)
                classes.append(header)
            classes.append(
                [_cell(row[column]) if column in ("sample", "rule", "unit") else float(row[column]) for column in row]
            )
        for what, text in provenance.get(name, Provenance()).facts.items():
            facts.append([_cell(name), what, _cell(text)])
    if comparisons:
        sheet = book.create_sheet("comparison")
        unit = next(result.sample.unit for by_rule in results.values() for result in by_rule.values())
        head, rows = comparison_table(comparisons, unit)
        for row in (head, *rows):
            sheet.append([_cell(cell) for cell in row])
    with whole_or_absent(path) as partial, partial.open("wb") as file:
        book.save(file)


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula, without what XLSX cannot hold."""
    clean = "".join(letter for letter in text if letter.isprintable()).encode("utf-8", "backslashreplace").decode()
    return f"'{clean}" if clean.startswith(("=", "@")) else clean


def write_pdf(
    path: Path,
    results: Mapping[str, Mapping[Rule, Result]],
    provenance: Mapping[str, Provenance],
    comparisons: Sequence[Comparison],
    choices: Choices,
) -> None:
    """Write `report.pdf`: a page of text a sample, then its figures as vectors. Whole or absent."""
    with whole_or_absent(path) as partial, PdfPages(partial, metadata={"Creator": f"sempre {__version__}"}) as pages:
        for name, by_rule in results.items():
            result = by_rule.get(choices.rule) or next(iter(by_rule.values()), None)
            lines = [name, "", headline(result) if result else "No particle counts.", ""]
            lines += [f"{what}: {text}" for what, text in provenance.get(name, Provenance()).facts.items() if text]
            if result is None:
                pages.savefig(_text_page(lines))
                continue
            header, rows = figure_table(by_rule, choices.rule)
            widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(header))]
            lines += ["", f"Columns: {'; '.join(header[1:])}", ""]
            lines += ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
            pages.savefig(_text_page(lines))
            drawn = [draw_distribution(result), draw_distribution(result, True), draw_settling(result)]
            drawn += [draw_fits(result, power) for power in (0, 3) if result.fits[power]]
            for figure in drawn:
                pages.savefig(figure)
        chosen = [by_rule[choices.rule] for by_rule in results.values() if choices.rule in by_rule]
        if comparisons:
            pages.savefig(draw_overlaid([one for one in chosen if one.sample.unit == chosen[0].sample.unit]))


def _text_page(lines: Sequence[str]) -> Figure:
    """A page of A4 with lines of text; long ones are broken."""
    from textwrap import wrap

    broken = [part for line in lines for part in (wrap(line, 105, subsequent_indent="  ") or [""])]
    figure = Figure(figsize=(210 / 25.4, 297 / 25.4))
    figure.text(0.07, 0.96, "\n".join(broken[:95]), family="DejaVu Sans Mono", size=7, va="top", parse_math=False)
    return figure
