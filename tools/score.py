"""Score predicted instances against the truth.

    python tools/score.py --pred DIR --true DIR
    python tools/score.py --pred DIR --true DIR --against other.json --json out.json

DIR holds one file a micrograph, of the same stem on both sides: a label image (.tif, .png; 0 is background) or, for
instances that overlap, `NAME.json` with `{"size": [H, W], "instances": [{"counts": […], "score": …}]}`, run lengths
as COCO's (column by column, background first). Mask AP is given where predictions have scores. `--against` takes
reports of other predictions and tells how much of their error, 1 - AJI+, is removed (ERR).
"""

import argparse
from pathlib import Path

import numpy as np

from sempre.errors import InputError, run_command
from sempre.files import read_json, write_json
from sempre.images import encode_rle
from sempre.images.instance_files import read_instances
from sempre.metrics import average_precision, error_reduction_rate, label_overlap, mask_overlap, score_sample, summarise

SUFFIXES = (".tif", ".tiff", ".png", ".json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pred", type=Path, required=True, metavar="DIR", help="predicted instances")
    parser.add_argument("--true", type=Path, required=True, metavar="DIR", help="true instances")
    parser.add_argument("--against", type=Path, nargs="*", default=[], metavar="JSON", help="reports to compare with")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report here")
    options = parser.parse_args()
    true_files, predicted_files = instance_files(options.true), instance_files(options.pred)
    if lacking := sorted(set(true_files) - set(predicted_files)):
        raise InputError(f"{options.pred} has no prediction for {lacking[0]} ({len(lacking)} lack): predict them all")
    samples, true_runs, predicted_runs = {}, {}, {}
    for name, file in true_files.items():
        true, _ = read_instances(file)
        predicted, scores = read_instances(predicted_files[name])
        if isinstance(true, np.ndarray) and isinstance(predicted, np.ndarray):
            overlap = label_overlap(true, predicted)
        else:
            overlap = mask_overlap(as_masks(true), as_masks(predicted))
        samples[name] = score_sample(overlap)
        if scores is not None:
            true_runs[name] = [encode_rle(mask) for mask in as_masks(true)]
            predicted_runs[name] = [encode_rle(mask) for mask in as_masks(predicted)], scores
    summary = summarise(samples)
    if len(predicted_runs) == len(samples):
        summary |= average_precision(true_runs, predicted_runs)
    report = {"summary": summary, "samples": samples, "error_reduction_rate": {}}
    for other in options.against:
        report["error_reduction_rate"][str(other)] = error_reduction_rate(
            1 - read_aji_plus(other), 1 - summary["aji_plus"]
        )
    print_report(report)
    if options.json:
        write_json(options.json, report)


def instance_files(folder: Path) -> dict[str, Path]:
    """The files of instances in `folder` by their stems."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    by_stem = {file.stem: file for file in files if file.stem not in ("scores", "summary")}
    if not by_stem:
        raise InputError(f"{folder} holds no label images or run lengths ({', '.join(SUFFIXES)})")
    return by_stem


def as_masks(instances: np.ndarray | list[np.ndarray]) -> list[np.ndarray]:
    if isinstance(instances, list):
        return instances
    return [instances == label for label in np.unique(instances[instances > 0])]


def read_aji_plus(file: Path) -> float:
    """Mean AJI+ of another report, or of a fine-tuned run's `summary.json`."""
    try:
        report = read_json(file)
        return report["summary"]["aji_plus"] if "summary" in report else report["scores"]["aji_plus"]["mean"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is no report of tools/score.py or of finetune/: {error!r}") from error


def print_report(report: dict) -> None:
    width = max(len(name) for name in report["samples"])
    print(f"{'':{width}}   AJI+    AJI     PQ   true  found  missed  false")
    for name, row in (*report["samples"].items(), ("all", report["summary"])):
        print(
            f"{name:{width}}  {row['aji_plus']:.3f}  {row['aji']:.3f}  {row['panoptic_quality']:.3f}  "
            f"{row['true_instances']:5d}  {row['correct']:5d}  {row['missed']:6d}  {row['false_positives']:5d}"
        )
    if "ap" in report["summary"]:
        print("mask AP {ap:.3f}, AP50 {ap50:.3f}, AP75 {ap75:.3f}".format(**report["summary"]))
    for other, reduction in report["error_reduction_rate"].items():
        print(f"ERR against {other}: {reduction:+.1f} %")


if __name__ == "__main__":
    run_command(main)
