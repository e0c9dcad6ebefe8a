"""Everything that is said of a sample: the figures under both border rules, their uncertainty, fits and classes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

from sempre.sizes.borders import RULES, Counted, Rule, Sample, count
from sempre.sizes.comparison import Comparison, compare
from sempre.sizes.distributions import TYPES, Table, class_edges, describe, tabulate
from sempre.sizes.fits import Fit, fit_models
from sempre.sizes.uncertainty import (
    LEVEL,
    NANO,
    Bootstrap,
    Interval,
    Settling,
    bootstrap,
    intervals,
    outline_uncertainty,
    particles_needed,
    pixel_size_uncertainty,
    settling,
    share_below,
)

MOST_COMPARED = 8  # samples, of which each pair is compared


@dataclass(frozen=True)
class Choices:
    """How a sample is evaluated."""

    rule: Rule = "weighted"
    smallest_px: float = 0.0
    pixel_size_uncertainty: float | None = None  # relative, standard; None takes what the source suggests


@dataclass(frozen=True)
class Result:
    """What is known of one sample under one border rule. `counted` has at least one particle."""

    sample: Sample
    rule: Rule
    counted: Counted
    figures: dict[str, float]
    intervals: dict[str, Interval]
    nano: Interval | None  # the share below 100 nm by the smallest Feret diameter; None in px
    drawn: Bootstrap
    table: Table
    fits: dict[int, list[Fit]]  # by number (0) and volume (3)
    settling: Settling


def analyse(sample: Sample, choices: Choices) -> dict[Rule, Result]:
    """The results of a sample by border rule; none under a rule that leaves no particle."""
    counted: dict[Rule, Counted] = {rule: count(sample, rule, choices.smallest_px) for rule in RULES}
    sources = {field.calibration for field in sample.fields}
    known = [pixel_size_uncertainty(source, choices.pixel_size_uncertainty) for source in sources]
    size = max(known) if sample.unit == "nm" and known else 0.0
    results = {}
    for rule, one in counted.items():
        if not len(one):
            continue
        drawn = bootstrap(one)
        results[rule] = Result(
            sample,
            rule,
            one,
            describe(one.diameter, one.weight),
            intervals(one, drawn, size, outline_uncertainty(one)),
            share_below(one, NANO) if sample.unit == "nm" else None,
            drawn,
            tabulate(one.diameter, one.weight, class_edges(one.diameter)),
            {power: fit_models(one.diameter, one.weight * one.diameter**power) for power in (0, 3)},
            settling(one),
        )
    return results


def compare_samples(results: Sequence[Result]) -> list[Comparison]:
    """Each pair of the first `MOST_COMPARED` samples, which must have one unit."""
    pairs = combinations(results[:MOST_COMPARED], 2)
    return [
        compare((one.sample.name, other.sample.name), (one.counted, other.counted), (one.drawn, other.drawn))
        for one, other in pairs
        if one.sample.unit == other.sample.unit
    ]


def as_json(results: dict[Rule, Result], sample: Sample, choices: Choices) -> dict:
    """One sample's part of `statistics.json`."""
    sizes = sorted({field.pixel for field in sample.fields})
    value = {
        "name": sample.name,
        "unit": sample.unit,
        "micrographs": len(sample.fields),
        "left_out": {"without_pixel_size": list(sample.without_scale), "failed": list(sample.failed)},
        "pixel_size": {
            "smallest": sizes[0] if sizes else None,
            "largest": sizes[-1] if sizes else None,
            "sources": sorted({field.calibration for field in sample.fields} - {""}),
        },
        "rule": choices.rule,
        "smallest_px": choices.smallest_px,
        "level": LEVEL,
    }
    for rule, result in results.items():
        value[rule] = _rule_json(result)
    return value


def _rule_json(result: Result) -> dict:
    counted = result.counted
    value = {
        "particles": {
            "found": counted.found,
            "cut_by_a_border": counted.cut,
            "below_the_limit": counted.small,
            "counted": len(counted),
            "represented": float(counted.weight.sum()),
            "wider_than_half_the_field": counted.wide,
        },
        "figures": result.figures,
        "intervals": {name: asdict(interval) for name, interval in result.intervals.items()},
        "drawn_from": result.drawn.by,
        "particles_needed": {
            "D50": particles_needed(result.figures["GSD"]),
            "DV50": particles_needed(result.figures["GSD"], power=3),
        },
        "fits": {
            TYPES[power]: [
                {
                    "model": fit.model,
                    "parameters": fit.parameters,
                    "rms_residual": fit.rms,
                    "largest_residual": fit.largest,
                    "residuals": fit.residuals,
                }
                for fit in fits
            ]
            for power, fits in result.fits.items()
        },
        "settling": {
            "micrographs": result.settling.micrographs,
            "D50": result.settling.mean.tolist(),
            "low": result.settling.low.tolist(),
            "high": result.settling.high.tolist(),
        },
    }
    if result.nano is not None:
        value["share_below_100_nm"] = asdict(result.nano)
    return value


def class_rows(results: dict[Rule, Result]) -> list[dict]:
    """The rows of `size_distribution.csv` of one sample: a class each, under each rule."""
    rows = []
    for rule, result in results.items():
        table = result.table
        for number, particles in enumerate(table.particles):
            row = {
                "sample": result.sample.name,
                "rule": rule,
                "unit": result.sample.unit,
                "lower": f"{table.edges[number]:.6g}",
                "upper": f"{table.edges[number + 1]:.6g}",
                "particles": str(particles),
            }
            for power in TYPES:
                row[f"q{power}"] = f"{table.density[power][number]:.6g}"
                row[f"Q{power}"] = f"{table.cumulative[power][number]:.6g}"
            rows.append(row)
    return rows
