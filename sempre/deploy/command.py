"""The command `sempre`: it segments on the microscope's PC, and runs the recipes.

sempre segment IMAGES... [--model MODEL] --out FOLDER
sempre pretrain fcmae store=store.h5

What computes is imported where a command runs it, for `sempre --help` should not wait for SciPy or onnxruntime.
"""

import argparse
import math
import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import sempre
from sempre.deploy.arguments import (
    Command,
    add_measure,
    add_segment,
    add_statistics,
    parse_pages,
    parse_pixel_size,
    parse_shard,
    read_choices,
)
from sempre.deploy.formats import USUAL, parse_formats
from sempre.errors import InputError, how_to_install, run_command
from sempre.recipes import COMMANDS, JOBS, recipes_of, table

if TYPE_CHECKING:
    pass

EXAMPLES = """examples:
  sempre segment my_micrographs --out results            outline and measure all particles of a folder
  sempre segment a.tif --model my_bundle --out results --pixel-size 2.5nm --format tif,csv,rois
                                                         with your own model, sizes in nm, outlines for ImageJ
  sempre segment --watch Z:\\sem --out results             what arrives in a folder, until Ctrl-C
  sempre measure labels --pixel-size 2nm --out results   the same of label images made or corrected elsewhere
  sempre statistics day1 day2 --by folder --out both     compare the sizes of samples, with intervals and a report
  sempre models                                          the models that come with sempre, and how good they are
  sempre app                                             segment, find and plan in the browser
  sempre finetune dense data=my_set                      train your own segmenter; options are key=value or YAML files
  sempre finetune dense --help                           all options of a recipe
"""


def main(argv: list[str] | None = None) -> None:
    """Exit with 0, with 1 if something failed, 2 for arguments or a bundle of no use."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in COMMANDS:
        return run_recipe(arguments)
    options = _parser().parse_args(arguments)
    return run_command(lambda: options.run(options))


def run_recipe(arguments: list[str]) -> None:
    """Run the recipe that the first words of `arguments` name, with the others as its own, and exit as it does."""
    word, *options = arguments
    recipes = recipes_of(word)
    if word in recipes:
        name = word
    elif options and f"{word} {options[0]}" in recipes:
        name = f"{word} {options.pop(0)}"
    else:
        asked = bool({"-h", "--help"} & set(options[:1]))
        lines = [f"usage: sempre {word} RECIPE [config.yaml …] [key=value …]", "", *table({word: COMMANDS[word]})]
        if not asked:
            lines += ["", f"error: '{options[0]}' is none of these" if options else "error: name one of these"]
        print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    try:
        recipe = import_module(f"sempre.recipes.{recipes[name].replace('/', '.')}")
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "sempre":
            raise
        print(f"error: sempre {name} needs {error.name}: {how_to_install('train')}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"sempre {name}", *options]  # whose first part argparse shows as the command's name
    # As the recipe's own last line does it: some run in one process, however many a launcher starts.
    run = getattr(recipe, "run_in_one_process", run_command)
    run(lambda: recipe.main(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sempre",
        usage="%(prog)s [-h] [--version] COMMAND …",
        description="Segment the particles in electron micrographs, and train what segments them.",
        epilog="\n".join([*_recipes(), "", EXAMPLES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sempre {sempre.__version__}")
    commands = parser.add_subparsers(
        prog="sempre", dest="command", required=True, metavar="COMMAND", parser_class=Command
    )
    command = commands.add_parser(
        "segment",
        help="find, outline and measure the particles of micrographs",
        description="For each micrograph NAME.* it writes NAME_instances.tif (a label image), NAME_particles.csv (sizes"
        " and shapes) and NAME_overlay.png, in the folders that it was found in; for all together summary.csv and"
        " size_distribution.png and .csv, statistics.json and report.html. Run again it goes on:"
        " what the same micrograph, model and options gave is not redone.",
    )
    add_segment(command)
    command.set_defaults(run=segment)
    command = commands.add_parser(
        "measure",
        help="sizes and statistics of label images that were made or corrected elsewhere",
        description="Measure label images, in which each particle's pixels hold its number. For each NAME.* it writes"
        " NAME_particles.csv and, where the micrograph lies beside it, NAME_overlay.png; for all together summary.csv,"
        " statistics.json, size_distribution.csv and report.html. No model is involved.",
        epilog="examples:\n"
        "  sempre measure results/*_instances.tif --pixel-size 2nm --out measured   labels corrected after segmenting\n"
        "  sempre measure my_set --out measured                                     my_set/images and my_set/labels\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measure(command)
    command.set_defaults(run=measure)
    command = commands.add_parser(
        "statistics",
        help="join results into samples: size distributions with intervals, fits, comparison, a report",
        description="Join what sempre segment or sempre measure wrote into one or several FOLDERs, as shards of a"
        " batch did, into one sample or several. It writes statistics.json, size_distribution.csv and report.html: D10,"
        " D50, D90 and means with intervals over micrographs, distributions by number, area and volume, fitted models;"
        " of several samples their differences, too.",
        epilog="examples:\n"
        "  sempre statistics shard1 shard2 --out joined                   one sample\n"
        "  sempre statistics batch_a batch_b --by folder --out compared   two samples, compared\n"
        "  sempre statistics results --by subfolder --out compared        each folder of micrographs is a sample\n"
        "  sempre statistics results --groups groups.csv --out compared   a CSV with columns micrograph and sample\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_statistics(command)
    command.set_defaults(run=statistics)
    command = commands.add_parser(
        "models", help="list the models that come with sempre", description="List the models that come with sempre."
    )
    command.set_defaults(run=list_models)
    command = commands.add_parser(
        "app",
        help="the cockpit: segment, find and plan in the browser",
        description="Serve the cockpit to this machine's browser, and to no other's. Ctrl-C ends it.",
    )
    command.add_argument("--port", type=int, default=8501, help="on localhost (default: 8501)")
    command.set_defaults(run=serve_app)
    for word in COMMANDS:  # which `main` runs: here only for what is told of an unknown command
        commands.add_parser(word)
    return parser


def _recipes() -> list[str]:
    """The commands that run a recipe, by job, for `--help`."""
    lines = []
    for job, words in JOBS.items():
        lines += ["", f"{job}:", *table(words)]
    return lines[1:]


def measure(options: argparse.Namespace) -> int:
    """Measure label images; the exit code, see `measure_batch`.

    Raises:
        InputError: for options that cannot be used, and where there are no label images.
    """
    from sempre.deploy.measure import MeasureOptions, find_label_images, measure_batch
    from sempre.sizes.report import check_workbook

    choices = read_choices(options)
    size = None if options.pixel_size is None else parse_pixel_size(options.pixel_size)
    if options.report:
        check_workbook()
    sources = find_label_images(options.labels, options.out)
    return measure_batch(sources, MeasureOptions(options.out, size, options.components, choices, options.report))


def statistics(options: argparse.Namespace) -> None:
    """Write the statistics of what batches wrote.

    Raises:
        InputError: for folders without results, damaged tables, and options that cannot be used.
    """
    from sempre.deploy.sample_statistics import group, read_tables, write_statistics

    choices = read_choices(options)
    tables = {table.particles.resolve(): (folder, table) for folder in options.folders for table in read_tables(folder)}
    samples = group(list(tables.values()), options.by, options.groups)
    print(*write_statistics(options.out, samples, choices, options.report), sep="\n")
    print(f"{len(tables)} micrographs in {len(samples)} sample{'s' * (len(samples) != 1)}: {options.out}")


def segment(options: argparse.Namespace) -> int:
    """Segment every micrograph; the exit code, see `segment_batch`.

    Raises:
        InputError: for options or a bundle that cannot be used, before anything is segmented.
    """
    from sempre.deploy.batch import Batch, run_batch
    from sempre.deploy.inputs import find_inputs
    from sempre.deploy.micrograph_results import BatchOptions
    from sempre.deploy.released import find_bundle
    from sempre.deploy.watch import check_folders, ended_by_signals, watch
    from sempre.deploy.workers import Means, begin
    from sempre.sizes.report import check_workbook

    if options.pixel_size is not None and options.pixel_size_nm is not None:
        raise InputError(f"--pixel-size {options.pixel_size} and --pixel-size-nm say the same: give one of them")
    if options.pixel_size_nm is not None and not 0 < options.pixel_size_nm < math.inf:
        raise InputError(f"--pixel-size-nm {options.pixel_size_nm:g} is no size: give nm per pixel, above 0")
    pixel_size_nm = options.pixel_size_nm if options.pixel_size is None else parse_pixel_size(options.pixel_size)
    if options.score_threshold is not None and not 0 <= options.score_threshold <= 1:
        raise InputError(f"--score-threshold {options.score_threshold:g} lies outside [0, 1]")
    if options.report:
        check_workbook()
    pages = parse_pages(options.page)
    formats = USUAL if options.format is None else parse_formats(options.format)
    if options.imagej_rois and "rois" not in formats:
        formats = (*formats, "rois")
    shard = parse_shard(options.shard)
    if not 0 < options.settle < math.inf:
        raise InputError(f"--settle {options.settle:g} is no time to wait: give seconds, above 0")
    if options.watch:
        check_folders(options.images, options.out)
        inputs = None
    else:
        inputs = find_inputs(options.images, options.out)
        if not any(source.path.exists() for source in inputs.sources):
            raise InputError(f"{', '.join(map(str, options.images))} does not exist: look at the name")
    batch = BatchOptions(
        options.out,
        formats,
        options.score_threshold,
        pixel_size_nm,
        options.crop_information_bar,
        options.overwrite,
        pages,
        full_size=options.format is not None and "overlay" in formats,
        shard=shard,
        report=options.report,
    )
    means = Means(
        find_bundle(options.model),
        options.threads,
        options.tile,
        options.flips,
        options.scale,
        options.provider,
        options.device,
        options.scale_bar,
    )
    with begin(means, batch, options.workers) as (settings, run):
        if inputs is not None:
            return run_batch(inputs, Batch(batch, settings, run))
        with ended_by_signals() as stopped:
            print(f"watching {', '.join(map(str, options.images))}: Ctrl-C ends it", flush=True)
            return watch(options.images, Batch(batch, settings, run, watching=True), stopped, options.settle)


def list_models(options: argparse.Namespace) -> None:
    """Print the models that come with sempre: name, kind, size, and AJI+ on each set that it was scored on."""
    from sempre.deploy.released import list_released

    models = list_released()
    if not models:
        print("No models come with this sempre: make one with tools/export_onnx.py, and segment with --model BUNDLE.")
        return
    rows = [("name", "kind", "MB", "scored on", "micrographs", "AJI+")]
    for model in models:
        row = (model.name, model.bundle.kind, f"{model.size / 1e6:.1f}")
        scores = [
            (name, f"{of['micrographs']:.0f}", f"{of['aji_plus']:.3f} ± {of['std']:.3f}")
            for name, of in model.scores.items()
        ]
        first, *others = scores or [("-", "-", "-")]
        rows += [(*row, *first), *(("", "", "", *other) for other in others)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def serve_app(options: argparse.Namespace) -> None:
    """Serve the cockpit until Ctrl-C, as `python -m sempre.app` does: nothing imports it.

    Raises:
        InputError: where Streamlit is not installed, and for a port that cannot be.
    """
    if find_spec("streamlit") is None:
        raise InputError(f"sempre app needs Streamlit: {how_to_install('app')}")
    if not 0 < options.port < 1 << 16:
        raise InputError(f"--port {options.port} is none: give 1 to 65535")
    sys.argv = ["sempre app", "--port", str(options.port)]
    runpy.run_module("sempre.app", run_name="__main__")


if __name__ == "__main__":
    main()
