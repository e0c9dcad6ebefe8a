"""Backbones in one table, so that one can be chosen; and whether fine-tuning ranks them alike."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from sempre.config import saved_options
from sempre.files import whole_or_absent, write_json
from sempre.frozen.encoder import RANDOM, split_layer
from sempre.report.html import heading, paragraph, table, write_page

FINE_TUNED = "fine-tuned AJI+"
FEWEST = 3  # backbones that a rank correlation takes


def write_backbone_table(
    folder: Path,
    title: str,
    about: str,
    rows: Mapping[str, Mapping[str, float]],
    read_out: Mapping[str, str],
    runs: Path = Path("runs"),
) -> dict:
    """Write `report.html`, `table.csv` and `summary.json` into `folder`, print the table and return the summary.

    Args:
        about: what the columns mean.
        rows: name of each backbone, and its figures, of the same names in every row.
        read_out: the layer and the cells of each backbone, in words.
        runs: where fine-tuned runs are looked for; if some began from these backbones, their AJI+ is one more column
            and, from three backbones on, Spearman's rank correlation with each other column is told.
    """
    tuned = fine_tuned_scores(rows, runs)
    summary = {
        "backbones": {name: dict(figures) for name, figures in rows.items()},
        "read_out": {name: read_out[name] for name in rows},
        "rank_correlation": {},
    }
    for name, score in tuned.items():
        summary["backbones"][name][FINE_TUNED] = score
    columns = list(next(iter(rows.values())))
    if len(tuned) >= FEWEST:
        scores = list(tuned.values())
        for column in columns:
            correlation = spearmanr([rows[name][column] for name in tuned], scores).statistic
            summary["rank_correlation"][column] = None if np.isnan(correlation) else float(correlation)
    shown = columns + [FINE_TUNED] * bool(tuned)
    cells = [
        [name, read_out[name], *(f"{figures[column]:.3f}" if column in figures else "" for column in shown)]
        for name, figures in summary["backbones"].items()
    ]
    header = ["backbone", "read out", *shown]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "summary.json", summary)
    with whole_or_absent(folder / "table.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *cells])
    parts = [
        paragraph(about),
        table(header, cells),
        *correlations(summary["rank_correlation"], len(tuned)),
    ]
    write_page(folder / "report.html", title, parts)
    print_table(header, cells)
    return summary


def fine_tuned_scores(backbones: Mapping[str, object], runs: Path) -> dict[str, float]:
    """Mean AJI+ of the fine-tuned runs under `runs` that began from each backbone, where there is one.

    `random:<architecture>` is what `backbone=none` of that architecture began from. Of several runs the best counts.
    The layer behind an @ makes no difference, for fine-tuning takes the whole network.
    """
    scores: dict[str, float] = {}
    for config in sorted(runs.rglob("config.yaml")):
        summary = config.with_name("summary.json")
        options = saved_options(config)
        if "backbone" not in options or "architecture" not in options or not summary.exists():
            continue
        aji_plus = json.loads(summary.read_text(encoding="utf-8")).get("scores", {}).get("aji_plus", {}).get("mean")
        for name in backbones:
            start, _ = split_layer(name)
            if start.startswith(RANDOM):
                same = options["backbone"] == "none" and options["architecture"] == start.removeprefix(RANDOM)
            else:
                same = Path(options["backbone"]).resolve() == Path(start).resolve()
            if same and aji_plus is not None:
                scores[name] = max(scores.get(name, 0.0), aji_plus)
    return {name: scores[name] for name in backbones if name in scores}


def correlations(values: Mapping[str, float | None], backbones: int) -> list[str]:
    if not values:
        return []
    rows = [(column, "" if value is None else f"{value:+.2f}") for column, value in values.items()]
    return [
        heading("Does it rank backbones as fine-tuning does?"),
        paragraph(f"Spearman's rank correlation with {FINE_TUNED} over {backbones} backbones; 1 is the same ranking."),
        table(("column", "correlation"), rows),
    ]


def print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        first, *others = (
            cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]))
