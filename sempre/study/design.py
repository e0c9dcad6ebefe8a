"""The cells of a study: every pretraining and every fine-tuning, with its name, its command and what it waits for.

A cell is a run of a recipe, `runs/<study>/<cell>`, and its name says all of it: `mask_rcnn-atto-fcmae-n8-1` is Mask
R-CNN, Atto, from an FCMAE of 8 images, seed 1. Nothing else is kept of a plan, so it can be made again at any time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Annotated, Any

from sempre.config import read_yaml, yaml_file
from sempre.errors import InputError
from sempre.ranges import Count, NotEmpty, OneOf, PositiveOrZero, Range, RunName, check_ranges


@dataclass(frozen=True)
class Settings:
    """`arguments` as the recipe takes them, YAML files and `key=value`; `values` is what they come to."""

    recipe: str
    arguments: list[str]
    values: dict[str, Any]

    def number(self, name: str) -> float:
        """Raises:
        InputError: when the arguments do not say it, or it is no positive number.
        """
        value = self.values.get(name)
        if not isinstance(value, int | float) or value <= 0:
            raise InputError(f"{self.recipe}={self.arguments} does not say {name}: add {name}=… to plan with")
        return value


def read_settings(recipe: str, arguments: list[str]) -> Settings:
    """Raises:
    InputError: for a YAML file that is missing or damaged.
    """
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if equals:
            values[name] = _number_or_text(text)
            continue
        try:
            values |= read_yaml(yaml_file(argument))
        except InputError as error:
            raise InputError(f"{recipe}={error}") from error
    return Settings(recipe, list(arguments), values)


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


PRETRAINED = ("densecl", "fcmae")
ARMS = ("none", "imagenet", *PRETRAINED)
METHODS = ("mask_rcnn", "dense")
SIZES = ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")
Methods = Annotated[list[str], OneOf(*METHODS), NotEmpty()]
CurveMethods = Annotated[list[str], OneOf(*METHODS)]
Arms = Annotated[list[str], OneOf(*ARMS), NotEmpty()]
Sizes = Annotated[list[str], OneOf(*SIZES), NotEmpty()]
Exponents = Annotated[list[int], Range(-1, 40)]
Shares = Annotated[list[float], Range(above=0, most=1)]
Seconds = Annotated[dict[str, float], Range(above=0)]
Counts = Annotated[dict[str, int], Range(1)]
STAGES = ("pretrain", "finetune")
STAGE_OF = {"fcmae": "pretrain", "densecl": "pretrain", "mask_rcnn": "finetune", "dense": "finetune"}
TRAINING_SHARE = 0.8  # of the unlabelled micrographs, the others validate
FINISHED = "finished"  # an empty file in a cell's folder, left when its recipe has ended well


@dataclass(kw_only=True)
class StudyOptions:
    name: RunName = "study"  # the study goes to runs/<name>
    data: str = ""  # folder of labelled micrographs; empty: a set rendered by render=
    unlabelled: str = ""  # folder of micrographs for pretraining; empty: the rendered ones
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    groups: str = ""  # also score groups: magnification (limit: field of 50 um), folder, or a CSV file
    methods: Methods = field(default_factory=lambda: list(METHODS))  # segmentation methods
    arms: Arms = field(default_factory=lambda: list(ARMS))  # initial weights to compare
    sizes: Sizes = field(default_factory=lambda: ["atto"])  # sizes of the ConvNeXtV2
    repeats: Count = 2  # number of seeds of each fine-tuning
    detail_size: str = ""  # size for the figures of micrographs and the two curves; empty: the first
    image_exponents: Exponents = field(default_factory=list)  # FCMAE on 2^s images, for each s; [-1]: from 0 to all
    label_shares: Shares = field(default_factory=list)  # shares of the labels for their curve, for example 0.1
    equal: Annotated[str, OneOf("steps", "epochs")] = "steps"  # equal for all numbers of images; article: epochs
    image_repeats: Count = 1  # subsets drawn of each number of images, each with its own pretraining
    curve_methods: CurveMethods = field(default_factory=lambda: ["mask_rcnn"])  # segmentation methods of the curves
    imagenet: str = "imagenet/convnextv2_{size}_1k_224_ema.pt"  # weights file: .pt of the original code, or timm's
    render: list[str] = field(default_factory=list)  # arguments of data/synthesize.py
    prepare: list[str] = field(default_factory=list)  # further arguments of data/prepare.py
    fcmae: list[str] = field(default_factory=list)  # further arguments of pretrain/fcmae.py; may include a YAML file
    densecl: list[str] = field(default_factory=list)  # further arguments of pretrain/densecl.py
    mask_rcnn: list[str] = field(default_factory=list)  # further arguments of finetune/mask_rcnn.py
    dense: list[str] = field(default_factory=list)  # further arguments of finetune/dense.py
    seconds_a_step: Seconds = field(default_factory=dict)  # of Atto, s, for fcmae, densecl, mask_rcnn, dense
    measured_on: str = ""  # machine on which seconds_a_step= was measured, in words
    parallel: Count = 1  # number of cells that run at once on this machine
    # By stage (pretrain, finetune), recipe (fcmae) or recipe and size (fcmae-huge); the nearest says it:
    nodes: Counts = field(default_factory=dict)  # nodes of a cell's job; 1 if not given
    hours: Counts = field(default_factory=dict)  # time limit of a cell's job, hours; it is then queued again
    accumulation: Counts = field(default_factory=dict)  # split each GPU's batch into this many parts
    gpus_a_node: Count = 1  # GPUs on a node of the cluster
    gpu_gigabytes: PositiveOrZero = 0.0  # memory of a GPU, GB; larger plans are refused; 0: no check


@dataclass(frozen=True)
class Cell:
    """One run of the study; `images` are those that FCMAE saw (0: all) and `labels` those trained on (0: all)."""

    name: str
    stage: str  # pretrain or finetune
    recipe: str  # fcmae, densecl, mask_rcnn or dense
    size: str
    command: tuple[str, ...]
    steps: int  # of training
    batch: int  # over all processes
    needs: str = ""  # name of the cell whose backbone it starts from
    arm: str = ""
    images: int = 0
    labels: int = 0
    seed: int = 0


def check_options(options: StudyOptions) -> None:
    """Raises:
    InputError: for an option out of its range, and a size of details that the study does not have.
    """
    check_ranges(options)
    if options.detail_size and options.detail_size not in options.sizes:
        raise InputError(f"detail_size={options.detail_size} is none of sizes={options.sizes}")
    known = {*STAGES, *STAGE_OF, *(f"{recipe}-{size}" for recipe in STAGE_OF for size in SIZES)}
    for table in ("nodes", "hours", "accumulation"):
        if unknown := [name for name in getattr(options, table) if name not in known]:
            raise InputError(f"{table} says something of {unknown[0]}: name a stage, a recipe, or both: fcmae-huge")


def of_table(table: dict[str, int], recipe: str, size: str, default: int) -> int:
    """What a table of the options says of a recipe and size, of the recipe, or of its stage."""
    names = (f"{recipe}-{size}", recipe, STAGE_OF[recipe])
    return next((table[name] for name in names if name in table), default)


def processes(options: StudyOptions, recipe: str, size: str) -> int:
    """How many processes, one a GPU, a cell's job has."""
    return of_table(options.nodes, recipe, size, 1) * options.gpus_a_node


def detail_size(options: StudyOptions) -> str:
    return options.detail_size or options.sizes[0]


def is_opened(cell: Cell, options: StudyOptions) -> bool:
    """Whether the report looks inside its network: each arm's first repeat of the first method, on all there is."""
    whole = (cell.stage, cell.images, cell.labels, cell.seed) == ("finetune", 0, 0, 0)
    return whole and (cell.recipe, cell.size) == (options.methods[0], detail_size(options))


def imagenet_file(options: StudyOptions, size: str) -> Path:
    return Path(options.imagenet.replace("{size}", size))


def missing_imagenet(options: StudyOptions) -> list[str]:
    """The sizes whose ImageNet weights are not there: their arm is left out."""
    return [size for size in options.sizes if "imagenet" in options.arms and not imagenet_file(options, size).is_file()]


def image_counts(options: StudyOptions, images: int) -> list[int]:
    """The numbers of images that FCMAE is pretrained on beside all: powers of two, fewer than are trained on, and not
    fewer than there are processes, for each needs an image of its own."""
    if "fcmae" not in options.arms:
        return []
    training = training_images(images)
    least = processes(options, "fcmae", detail_size(options))
    powers = [2**exponent for exponent in range(training.bit_length()) if least <= 2**exponent < training]
    if options.image_exponents == [-1]:
        return powers
    return [count for count in powers if count.bit_length() - 1 in options.image_exponents]


def training_images(images: int) -> int:
    return max(1, round(TRAINING_SHARE * images))


def label_counts(options: StudyOptions, labelled: int) -> list[int]:
    """The numbers of labelled micrographs that the curve over labels has beside all of the `labelled` in training."""
    counts = {max(2, round(share * labelled)) for share in options.label_shares}
    return sorted(count for count in counts if count < labelled)


def plan_cells(options: StudyOptions, data: Path, store: Path, images: int, labelled: int) -> list[Cell]:
    """All cells, those that others wait for first.

    Args:
        images: unlabelled micrographs.
        labelled: labelled micrographs on the training split.

    Raises:
        InputError: as `check_options`, and for settings that say no number of steps.
    """
    check_options(options)
    pretrainings = _pretrainings(options, store, images)
    lacking = missing_imagenet(options)
    small = detail_size(options)
    finetunings = []
    for method in options.methods:
        for size in options.sizes:
            for arm in (arm for arm in options.arms if not (arm == "imagenet" and size in lacking)):
                for seed in range(options.repeats):
                    finetunings.append(_finetuning(options, data, labelled, method, size, arm, seed))
                    if method in options.curve_methods and size == small:
                        counts = label_counts(options, labelled)
                        finetunings += [
                            _finetuning(options, data, labelled, method, size, arm, seed, labels=count)
                            for count in counts
                        ]
                        if arm == "fcmae":
                            finetunings += [
                                _finetuning(options, data, labelled, method, size, arm, seed, images=count)
                                for count in image_counts(options, images)
                            ]
    return [*pretrainings, *finetunings]


def _pretrainings(options: StudyOptions, store: Path, images: int) -> list[Cell]:
    arms = [arm for arm in PRETRAINED if arm in options.arms]
    whole = [(arm, size, 0, 0) for size in options.sizes for arm in arms]
    small = detail_size(options)
    drawn = range(options.image_repeats)
    shares = [("fcmae", small, count, draw) for count in image_counts(options, images) for draw in drawn]
    if not options.curve_methods:
        shares = []
    training = training_images(images)
    cells = []
    for arm, size, count, draw in whole + shares:
        settings = read_settings(arm, getattr(options, arm))
        epochs, batch = ceil(settings.number("epochs")), int(settings.number("batch"))
        steps = epochs * max(1, training // batch)
        own = []
        if count and options.equal == "steps":
            own = _as_many_steps(settings, steps, count, batch)
        elif count:
            own, steps = [f"image_count={count}"], epochs * max(1, count // batch)
        own += [f"image_seed={draw}", f"seed={draw}"] if draw else []
        own += _accumulation(options, arm, size)
        name = pretraining_name(arm, size, count, draw)
        command = [f"pretrain/{arm}.py", *settings.arguments, f"store={store}", f"architecture=convnextv2_{size}", *own]
        command.append(f"name={options.name}/{name}")
        cells.append(Cell(name, "pretrain", arm, size, tuple(command), steps, batch, arm=arm, images=count, seed=draw))
    return cells


def pretraining_name(arm: str, size: str, images: int = 0, draw: int = 0) -> str:
    """As in `fcmae-pico-n8-s1`: on the second of the subsets of 8 images."""
    return f"{arm}-{size}" + (f"-n{images}" if images else "") + (f"-s{draw}" if draw else "")


def _accumulation(options: StudyOptions, recipe: str, size: str) -> list[str]:
    parts = of_table(options.accumulation, recipe, size, 0)
    return [f"accumulation={parts}"] if parts else []


def _as_many_steps(settings: Settings, steps: int, count: int, batch: int) -> list[str]:
    """Options of a pretraining on `count` images that make it as many steps as all images would, and warm up as long.

    Otherwise a curve over images would show how long was trained as well.
    """
    epochs = ceil(steps / max(1, count // batch))
    factor = epochs / settings.number("epochs")
    warmup, validate = settings.number("warmup_epochs"), settings.number("validate_every")
    return [
        f"image_count={count}",
        f"epochs={epochs}",
        f"warmup_epochs={warmup * factor:g}",
        f"validate_every={max(1, round(validate * factor))}",
    ]


def _finetuning(
    options: StudyOptions,
    data: Path,
    labelled: int,
    method: str,
    size: str,
    arm: str,
    seed: int,
    images: int = 0,
    labels: int = 0,
) -> Cell:
    settings = read_settings(method, getattr(options, method))
    needs, start = "", [f"backbone={arm}"]
    if arm in PRETRAINED:
        needs = pretraining_name(arm, size, images, seed % options.image_repeats if images else 0)
        start = [f"backbone=runs/{options.name}/{needs}/backbone"]
    elif arm == "imagenet":
        start = _imagenet_arguments(imagenet_file(options, size))
    shares = "".join([f"-n{images}" if images else "", f"-l{labels}" if labels else ""])
    name = f"{method}-{size}-{arm}{shares}-{seed}"
    crops = int(settings.number("crops_an_epoch")) if method == "dense" else labels or labelled
    batch = int(settings.number("batch"))
    steps = ceil(settings.number("epochs")) * max(1, crops // batch)
    command = [f"finetune/{method}.py", *settings.arguments, f"data={data}", f"architecture=convnextv2_{size}", *start]
    command += [f"split_file={options.split_file}"] if options.split_file else []
    command += [f"label_count={labels}"] if labels else []
    command += _accumulation(options, method, size)
    command += ["repeats=1", f"seed={seed}", f"name={options.name}/{name}"]
    return Cell(name, "finetune", method, size, tuple(command), steps, batch, needs, arm, images, labels, seed)


def _imagenet_arguments(file: Path) -> list[str]:
    """Weights in the layout of the original code are a backbone of their own, others are timm's."""
    if file.suffix in (".pt", ".pth"):
        return [f"backbone={file}"]
    return ["backbone=imagenet", f"imagenet_weights={file}"]


def cells_of(cells: Sequence[Cell], stage: str) -> list[Cell]:
    return [cell for cell in cells if cell.stage == stage]
