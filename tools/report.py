"""One page of what a fine-tuning finds, or of several side by side: scores, recall by size, overlays.

    python tools/report.py runs=[runs/my_particles] data=my_set
    python tools/report.py runs=[runs/a,runs/b] data=my_set out=report.html names=[random,FCMAE]

Takes runs of finetune/mask_rcnn.py, evaluate/watershed.py and evaluate/prototypes.py that held out the same micrographs
of `data`. The last one's scores decide which micrographs are shown.
"""

from dataclasses import dataclass, field
from pathlib import Path

from sempre.config import read_options
from sempre.errors import InputError, run_command
from sempre.report.comparison_page import write_comparison_report


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs that the runs were scored on
    runs: list[str] = field(default_factory=list)  # folders of finished runs
    names: list[str] = field(default_factory=list)  # names of the runs on the page; []: their folders' names
    out: str = "report.html"  # HTML file to write


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    if not options.runs:
        raise InputError("there is nothing to show: give the folders of finished runs, runs=[runs/a,runs/b]")
    names = options.names or [Path(run).name for run in options.runs]
    if len(names) != len(options.runs):
        raise InputError(f"names={names} are {len(names)} for {len(options.runs)} runs: give one each")
    if len(set(names)) < len(names):
        raise InputError(f"two runs have the same name ({', '.join(names)}): give names=[…] that differ")
    runs = {name: Path(run) for name, run in zip(names, options.runs, strict=True)}
    write_comparison_report(Path(options.out), Path(options.data), runs)
    print(f"The report is {options.out}")
    return 0


if __name__ == "__main__":
    run_command(main)
