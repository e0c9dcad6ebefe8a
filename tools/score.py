"""Score predicted instances against the truth.

    python tools/score.py --pred DIR --true DIR
    python tools/score.py --pred DIR --true DIR --against other.json --json out.json
    python tools/score.py --pred runs/NAME/repeat-0/predictions --true my_set/labels --held-out

DIR holds one file a micrograph, of the same stem on both sides: a label image (.tif, .png; 0 is background) or, for
instances that overlap, `NAME.json` with `{"size": [H, W], "instances": [{"counts": […], "score": …}]}`, run lengths
as COCO's (column by column, background first), LabelMe's `NAME.json`, or ImageJ's ROIs in `NAME.zip`. What says in a
name that it is labels is no part of the stem: the results of `sempre segment`, `NAME_instances.tif`, are of NAME.
--true may also be a labelled set's folder, or an export of COCO, VIA or CVAT. Mask AP is given where predictions have
scores; of a label image these are in `NAME.json` beside it, which holds all detections, those too that scored too
little for the label image. A mask, whose particles have no numbers of their own, is refused; with `--components` each
piece of it is a particle.
`--against` takes reports of other predictions and tells how much of their error, 1 - AJI+, is removed (ERR). `--groups`
scores groups of micrographs apart: by a CSV file of rows name,group, by the sub-folders of the true DIR (folder), or,
with `--images DIR` of the micrographs, by their magnification (low: a field of view of more than 50 um).
"""

import argparse
from pathlib import Path

import numpy as np

from sempre.data.coco import coco_layers
from sempre.data.exports import read_annotations, read_label_file
from sempre.data.groups import read_groups
from sempre.data.label_files import OUTLINE_SUFFIXES, SET_SUFFIXES, find_export, scored_files
from sempre.errors import InputError, run_command
from sempre.files import read_json, write_json
from sempre.images import encode_rle, find_micrographs
from sempre.images.label_images import read_instances
from sempre.metrics import (
    average_precision,
    by_group,
    error_reduction_rate,
    label_overlap,
    mask_overlap,
    score_sample,
    summarise,
)

ALL = "all"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pred", type=Path, required=True, metavar="DIR", help="predicted instances")
    parser.add_argument("--true", type=Path, required=True, metavar="DIR", help="true instances, or an export of them")
    parser.add_argument("--against", type=Path, nargs="*", default=[], metavar="JSON", help="reports to compare with")
    parser.add_argument(
        "--groups", default="", metavar="BY", help="magnification, folder, or a CSV file (FILE.csv:COLUMN)"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="the micrographs, for --groups magnification")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="score what is predicted alone, as of a run that predicts its held-out split",
    )
    parser.add_argument("--components", action="store_true", help="each piece of an id's pixels is a particle")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report here")
    options = parser.parse_args(argv)
    true_of, predicted_files = true_instances(options.true), scored_files(options.pred)
    lacking = sorted(set(true_of) - set(predicted_files))
    if len(lacking) == len(true_of):
        raise InputError(f"{options.pred} has no prediction of any of {options.true}: give the folder that has")
    if lacking and not options.held_out:
        raise InputError(
            f"{options.pred} has no prediction for {lacking[0]} ({len(lacking)} lack): predict them all, or say"
            " --held-out where only those that are there are meant"
        )
    true_of = {name: of_it for name, of_it in true_of.items() if name in predicted_files}
    groups = groups_of(options.groups, true_of, options.images)
    samples, true_runs, predicted_runs = {}, {}, {}
    for name, of_it in true_of.items():
        true, predicted = read_both(of_it, predicted_files[name], options)
        if len(true) == len(predicted) == 1:
            overlap = label_overlap(true[0], predicted[0])
        else:
            overlap = mask_overlap(as_masks(true), as_masks(predicted))
        samples[name] = score_sample(overlap)
        detections = predicted_files[name].with_suffix(".json")
        if detections.exists() and "instances" in read_json(detections):
            masks, scores = read_instances(detections)
            if scores is not None and isinstance(masks, list):
                true_runs[name] = [encode_rle(mask) for mask in as_masks(true)]
                predicted_runs[name] = [encode_rle(mask) for mask in masks], scores
    if not sum(sample["true_instances"] for sample in samples.values()):
        raise InputError(f"{options.true} has no particle in the {len(samples)} scored: nothing can be found or missed")
    summary = summarise(samples)
    if len(predicted_runs) == len(samples):
        summary |= average_precision(true_runs, predicted_runs)
    report = {"summary": summary, "samples": samples, "error_reduction_rate": {}}
    if groups:
        report["groups"] = {group: summarise(members) for group, members in by_group(samples, groups).items()}
    for other in options.against:
        reductions = error_reductions(read_report(other), report)
        report["error_reduction_rate"][str(other)] = reductions.pop(ALL)
        if reductions:
            report.setdefault("error_reduction_rate_by_group", {})[str(other)] = reductions
    print_report(report)
    if options.json:
        write_json(options.json, report)
    return 0


def true_instances(true: Path) -> dict[str, Path | dict]:
    """By the micrographs' names the files of true instances, or their entries in an export, which `true` may be too."""
    export = true if true.is_file() else find_export(true) if true.is_dir() else None
    if export is None:
        return dict(scored_files(true))
    if export.suffix.lower() not in SET_SUFFIXES:
        raise InputError(f"{export} is no export of labels: give a folder, or a file of COCO, VIA or CVAT")
    entries = {}
    for name, entry in read_annotations(export).items():
        if entries.setdefault(Path(name).stem, entry) is not entry:
            raise InputError(f"{export} lists two files of the stem {Path(name).stem}: score one of them")
    return {name: {**entry, "source": export} for name, entry in entries.items()}


def read_both(true: Path | dict, predicted: Path, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """The layers `[L, H, W]` of the true and of the predicted instances; what does not say its size has the other's."""

    def read(source: Path | dict, shape: tuple[int, int] | None) -> np.ndarray:
        if isinstance(source, Path):
            return read_label_file(source, shape, options.components)
        height, width = source["height"] or (shape and shape[0]), source["width"] or (shape and shape[1])
        if not height or not width:
            raise InputError(
                f"{source['source']} does not say how large {source['file_name']} is: predict label images"
            )
        return coco_layers({**source, "height": height, "width": width}, source["source"])

    if predicted.suffix.lower() in OUTLINE_SUFFIXES:
        layers = read(true, None)
        return layers, read(predicted, layers.shape[1:])
    layers = read(predicted, None)
    return read(true, layers.shape[1:]), layers


def as_masks(layers: np.ndarray) -> list[np.ndarray]:
    """The instances of layers `[L, H, W]` as bool masks `[H, W]`."""
    return [layer == label for layer in layers for label in np.unique(layer[layer > 0])]


def groups_of(by: str, true_of: dict[str, Path | dict], images: Path | None) -> dict[str, str]:
    """The group of each micrograph by its name, read from the micrographs where the labels do not tell."""
    if by != "magnification":
        paths = {
            name: Path(of_it["file_name"]) if isinstance(of_it, dict) else of_it for name, of_it in true_of.items()
        }
        return read_groups(by, paths)
    if images is None:
        raise InputError("--groups magnification needs the micrographs, which say their pixel size: give --images DIR")
    found = {file.stem: file for file in find_micrographs(images)}
    if lacking := sorted(set(true_of) - set(found)):
        raise InputError(f"{images} has no micrograph {lacking[0]} ({len(lacking)} lack): give the folder of them all")
    return read_groups(by, {name: found[name] for name in true_of})


def read_report(file: Path) -> dict[str, float]:
    """Mean AJI+ over all and by group, of another report or of a fine-tuned run's `summary.json`."""
    try:
        report = read_json(file)
        groups = report.get("groups", {})
        if "summary" in report:
            return {ALL: report["summary"]["aji_plus"]} | {group: of_it["aji_plus"] for group, of_it in groups.items()}
        scores = {ALL: report["scores"]} | groups
        return {group: of_it["aji_plus"]["mean"] for group, of_it in scores.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is no report of tools/score.py or of finetune/: {error!r}") from error


def error_reductions(other: dict[str, float], report: dict) -> dict[str, float]:
    """ERR in per cent over all, and in each group that both reports have."""
    own = {ALL: report["summary"]} | report.get("groups", {})
    return {
        group: error_reduction_rate(1 - other[group], 1 - scores["aji_plus"])
        for group, scores in own.items()
        if group in other
    }


def print_report(report: dict) -> None:
    rows = {**report["samples"], **report.get("groups", {}), ALL: report["summary"]}
    width = max(len(name) for name in rows)
    print(f"{'':{width}}   AJI+    AJI     PQ   true  found  missed  false")
    for name, row in rows.items():
        print(
            f"{name:{width}}  {row['aji_plus']:.3f}  {row['aji']:.3f}  {row['panoptic_quality']:.3f}  "
            f"{row['true_instances']:5d}  {row['correct']:5d}  {row['missed']:6d}  {row['false_positives']:5d}"
        )
    if "ap" in report["summary"]:
        print("mask AP {ap:.3f}, AP50 {ap50:.3f}, AP75 {ap75:.3f}".format(**report["summary"]))
    for other, reduction in report["error_reduction_rate"].items():
        apart = report.get("error_reduction_rate_by_group", {}).get(other, {})
        shown = "".join(f", {group} {value:+.1f} %" for group, value in apart.items())
        print(f"ERR against {other}: {reduction:+.1f} %{shown}")


if __name__ == "__main__":
    run_command(main)
