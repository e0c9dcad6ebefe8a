"""Damaged files into every entrance: what is read must be read or refused in one sentence, soon and in little memory.

    python tools/fuzz.py                                       10,000 cases of each format; a table at the end
    python tools/fuzz.py formats=[tiff,coco] cases=500
    python tools/fuzz.py formats=[tiff] case=123 out=case.tif  one case: the file, and the traceback if there is one

Cases are functions of (seed, format, number) and run in a process that is watched: a failure is anything but an
`InputError`, more than 10 s, more than 1 GB, or a process that dies. Started again, a campaign goes on. Mutations are
plain and know each format's structure (`tests.fuzzing.mutations`): coverage guides no fuzzer through the compiled
decoders, and checksums stop those that do not know them.
"""

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sempre.config import read_options
from sempre.errors import InputError, run_command
from sempre.files import read_json, write_json

sys.path.insert(0, str(Path(__file__).parents[1]))  # the cases stand beside the tests, which are not installed

from sempre.ranges import Count, CountOrAuto, Seed
from tests.fuzzing.cases import Format, case_content, watched_cases

SAVED_EVERY = 10.0  # s
SHOWN = 300  # letters of a failure's detail


@dataclass(kw_only=True)
class Options:
    formats: list[str] = field(default_factory=list)  # formats to test; []: all
    cases: Count = 10_000  # number of cases of each format
    seed: Seed = 0  # random seed of the mutations
    case: CountOrAuto = -1  # run only this case, in this process; -1: all
    out: str = ""  # file that the one case is written to
    runs: str = "runs/fuzz"  # folder in which a campaign is kept


def main(argv: list[str] | None = None) -> int:
    # Here, for the watched processes import this file too, and those of pictures need no PyTorch.
    from tests.fuzzing import model_formats, picture_formats

    options = read_options(Options, argv)
    modules = {name: module for module in (picture_formats, model_formats) for name in module.FORMATS}
    names = options.formats or list(modules)
    if unknown := [name for name in names if name not in modules]:
        raise InputError(f"formats={unknown[0]} is unknown: choose some of {', '.join(modules)}")
    if options.case >= 0:
        run_one(modules[names[0]].FORMATS[names[0]], options)
        return 0
    states = []
    for name in names:
        states.append(campaign(modules[name].__name__, name, options))
        print_row(name, states[-1])
    return int(any(state["failures"] for state in states))


def run_one(format: Format, options: Options) -> None:
    """Write a case and put it through its entrances; what goes wrong is raised."""
    path = Path(options.out or format.file_name).absolute()
    path.write_bytes(case_content(format, format.seeds(), options.seed, options.case))
    print(f"{format.name} case {options.case}: {path}")
    format.enter(path)


def campaign(module: str, name: str, options: Options) -> dict:
    """All cases of a format, from where an earlier campaign of this seed stopped; what came of them."""
    file = Path(options.runs) / f"{name}-{options.seed}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {"done": 0, "counts": {}, "failures": [], "peak_mb": 0, "seconds": 0.0}
    if file.is_file():
        state = read_json(file)
    counts, seconds, start, saved = Counter(state["counts"]), state["seconds"], time.monotonic(), time.monotonic()
    for outcome in watched_cases(module, name, options.seed, state["done"], options.cases):
        counts[outcome.kind] += 1
        if outcome.failed:
            failure = {"case": outcome.number, "kind": outcome.kind, "detail": outcome.detail[:SHOWN]}
            state["failures"].append(failure)
        state["peak_mb"] = max(state["peak_mb"], outcome.peak >> 20)
        state |= {"done": outcome.number + 1, "counts": dict(counts), "seconds": seconds + time.monotonic() - start}
        if time.monotonic() - saved > SAVED_EVERY or state["done"] == options.cases:
            write_json(file, state)
            saved = time.monotonic()
    return state


def print_row(name: str, state: dict) -> None:
    counts = state["counts"]
    failures = ", ".join(f"{counts[kind]} {kind}" for kind in counts if kind not in ("read", "refused")) or "no failure"
    print(
        f"{name:<20} {state['done']:>6} cases  {counts.get('read', 0):>6} read  {counts.get('refused', 0):>6} refused  "
        f"{state['peak_mb']:>5} MB  {state['seconds']:>5.0f} s  {failures}",
        flush=True,
    )
    for (kind, where), cases in grouped(state["failures"]).items():
        print(f"    {kind} x{len(cases)}, case {cases[0]}: {where}", flush=True)


def grouped(failures: list[dict]) -> dict[tuple[str, str], list[int]]:
    """The cases of each kind of failure, by the place where it happened."""
    groups: dict[tuple[str, str], list[int]] = {}
    for failure in failures:
        detail = failure["detail"]
        place = (failure["kind"], detail[detail.rfind("(") :]) if "(" in detail else (failure["kind"], detail)
        known = next((key for key in groups if key[0] == place[0] and key[1].endswith(place[1])), None)
        groups.setdefault(known or (failure["kind"], detail), []).append(failure["case"])
    return groups


if __name__ == "__main__":
    run_command(main)
