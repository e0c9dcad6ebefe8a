"""Write a bundle of a dense segmenter as a model of the BioImage Model Zoo (bioimage.io): rdf.yaml, weights and tests.

    python tools/export_bioimage.py bundle=my_bundle out=my_zoo_model name="Particles in SEM" authors=["A. Muster"]

It needs the extra `bioimageio`, whose library writes the description and then runs the model on its own test input.
Programs that read the zoo get the network's two maps, the probability of foreground and the depth, of a micrograph at
one scale. The choice of a scale and the watershed that makes particles of the maps are sempre's.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

from sempre.config import read_options
from sempre.deploy.bundle import DATA, DenseBundle, read_bundle
from sempre.deploy.overlay import write_overlay
from sempre.deploy.released import find_bundle
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError, how_to_install, run_command
from sempre.images import read_micrograph
from sempre.segmentation.maps import MULTIPLE, STRIDE
from sempre.synthetic import FieldOptions, render_field

LEAST_SIDE = 256  # px that a side of the network's input has in other programs; what is smaller they pad
TEST_SIDE = 512  # px of the test input
HALO = 32  # px of the maps along the border of a tile that the network sees too little around
EPSILON = 1e-6  # of the library's `scale_range`
# How far the maps may be off on another machine, and in how many places of a million they may be off by more, as those
# of 8-bit integers are: the most that the zoo allows.
RELATIVE, ABSOLUTE, BEYOND = 1e-3, 5e-3, 5000
README = """# {name}

{description}

Input: a grey micrograph, whose percentiles {low:g} and {high:g} become 0 and 1. Particles should be 20 to 160 px wide:
scale the micrograph to that. Output: two maps of half its size, the probability that a pixel belongs to a particle, and
the depth, 0 at a particle's outline and 1 in its middle. A watershed from the deepest places, within the foreground
above {foreground:g}, gives the particles. `sempre segment` does that, chooses the scale by itself, and widens the range
of grey values for sparse fields; it reads the same network as a bundle.

## Validation

{validation}
"""


@dataclass
class Options:
    bundle: str = ""  # bundle's folder or a released model's name; empty: the default model
    out: str = "???"  # output folder
    name: str = "Particles in electron micrographs"  # name of the model in the zoo
    authors: list[str] = field(default_factory=lambda: ["sempre"])  # who made the model
    micrograph: str = ""  # source of the published test input; empty: a render


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    try:
        import bioimageio.core
        import bioimageio.spec.model.v0_5
    except ImportError:
        raise InputError(f"the export needs bioimageio.core: {how_to_install('bioimageio')}") from None
    folder, out = Path(find_bundle(options.bundle or None)), Path(options.out)
    bundle = read_bundle(folder)
    if not isinstance(bundle, DenseBundle):
        raise InputError(f"{folder} is a {bundle.kind}, whose lists of particles the zoo's layout has no place for")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out={out} is there already: give a new folder")
    if not options.authors:
        raise InputError("authors=[] names nobody: give at least one")
    with tempfile.TemporaryDirectory() as scratch:
        write_model(bundle, options, Path(scratch), out)
    summary = bioimageio.core.test_model(out / "rdf.yaml")
    if summary.status == "failed":
        reasons = [error.msg for detail in summary.details for error in detail.errors]
        shutil.rmtree(out)
        raise InputError(f"bioimageio.core cannot run the model, so nothing was written: {'; '.join(reasons)[:500]}")
    print(f"{out}: {summary.status} by bioimageio.core {bioimageio.core.__version__}, which ran the model on its test")
    return 0


def write_model(bundle: DenseBundle, options: Options, scratch: Path, out: Path) -> None:
    """Write the model's folder `out` by the zoo's own library, which checks what the description says.

    Args:
        scratch: a folder for the files on their way there.
    """
    from bioimageio.spec import save_bioimageio_package_as_folder
    from bioimageio.spec.model import v0_5 as zoo

    pixels = test_pixels(options.micrograph)
    image, maps = test_tensors(bundle, pixels)
    np.save(scratch / "test_input.npy", image)
    np.save(scratch / "test_output.npy", maps)
    Image.fromarray(pixels).save(scratch / "sample_input.png")
    segmentation = Segmenter(bundle.model.parent, threads=1, scale=1.0).segment(pixels)
    write_overlay(scratch / "cover.png", pixels, segmentation.labels, None)
    low, high = bundle.percentiles
    described = "Finds particles in electron micrographs: foreground and depth, for a watershed. Made with sempre."
    card = bundle.model.with_name("card.md")
    validation = card.read_text(encoding="utf-8") if card.is_file() else "Score it on labelled micrographs of yours."
    text = README.format(
        name=options.name,
        description=described,
        low=low,
        high=high,
        foreground=bundle.decoding.foreground,
        validation=validation.replace("\n# ", "\n### ").removeprefix("# "),
    )
    (scratch / "README.md").write_text(text, encoding="utf-8")
    for name in (bundle.model.name, DATA):
        if (source := bundle.model.with_name(name)).is_file():
            shutil.copy(source, scratch / name)

    def space(axis: str):
        size = zoo.ParameterizedSize(min=LEAST_SIDE, step=MULTIPLE)
        return zoo.SpaceInputAxis(id=zoo.AxisId(axis), size=size, concatenable=False)

    def half(axis: str):
        size = zoo.SizeReference(tensor_id=zoo.TensorId("image"), axis_id=zoo.AxisId(axis))
        return zoo.SpaceOutputAxisWithHalo(id=zoo.AxisId(axis), size=size, scale=STRIDE, halo=HALO)

    percentiles = zoo.ScaleRangeKwargs(
        axes=(zoo.AxisId("channel"), zoo.AxisId("y"), zoo.AxisId("x")),
        min_percentile=low,
        max_percentile=high,
        eps=EPSILON,
    )
    steps = [zoo.ScaleRangeDescr(kwargs=percentiles), zoo.ClipDescr(kwargs=zoo.ClipKwargs(min=0.0, max=1.0))]
    if (bundle.low, bundle.high) != (0.0, 1.0):
        linear = zoo.ScaleLinearKwargs(gain=bundle.high - bundle.low, offset=bundle.low)
        steps.append(zoo.ScaleLinearDescr(kwargs=linear))
    channels = ["foreground", "depth"]
    batch = zoo.BatchAxis(size=1)
    data = scratch / DATA
    model = zoo.ModelDescr(
        name=options.name,
        description=described,
        authors=[zoo.Author(name=author) for author in options.authors],
        license=zoo.LicenseId("Apache-2.0"),
        tags=["electron-microscopy", "sem", "tem", "particles", "instance-segmentation", "2d", "onnx"],
        documentation=zoo.FileDescr(source=scratch / "README.md"),
        covers=[zoo.FileDescr(source=scratch / "cover.png")],
        timestamp=zoo.Datetime.now(),
        inputs=[
            zoo.InputTensorDescr(
                id=zoo.TensorId("image"),
                description="Grey values of a micrograph",
                axes=[batch, zoo.ChannelAxis(channel_names=["grey"]), space("y"), space("x")],
                data=zoo.IntervalOrRatioDataDescr(type="float32"),
                preprocessing=steps,
                test_tensor=zoo.FileDescr(source=scratch / "test_input.npy"),
                sample_tensor=zoo.FileDescr(source=scratch / "sample_input.png"),
            )
        ],
        outputs=[
            zoo.OutputTensorDescr(
                id=zoo.TensorId("maps"),
                description="Probability of foreground, and depth: 0 at a particle's outline, 1 in its middle",
                axes=[batch, zoo.ChannelAxis(channel_names=channels), half("y"), half("x")],
                data=zoo.IntervalOrRatioDataDescr(type="float32"),
                test_tensor=zoo.FileDescr(source=scratch / "test_output.npy"),
            )
        ],
        weights=zoo.WeightsDescr(
            onnx=zoo.OnnxWeightsDescr(
                source=scratch / bundle.model.name,
                opset_version=opset(bundle.model),
                external_data=zoo.FileDescr(source=data) if data.is_file() else None,
            )
        ),
        config=zoo.Config(
            bioimageio=zoo.BioimageioConfig(
                reproducibility_tolerance=[
                    zoo.ReproducibilityTolerance(
                        relative_tolerance=RELATIVE,
                        absolute_tolerance=ABSOLUTE,
                        mismatched_elements_per_million=BEYOND,
                    )
                ]
            )
        ),
    )
    save_bioimageio_package_as_folder(model, output_path=out)


def test_pixels(micrograph: str) -> np.ndarray:
    """The test input, uint8 `[H, W]`: the middle of a micrograph, or a render.

    Raises:
        InputError: for a micrograph that cannot be read, or with a side below `LEAST_SIDE`.
    """
    if not micrograph:
        return render_field(0, (TEST_SIDE, TEST_SIDE), FieldOptions()).pixels
    pixels = read_micrograph(micrograph).pixels
    sides = [min(side, TEST_SIDE) // MULTIPLE * MULTIPLE for side in pixels.shape]
    if min(sides) < LEAST_SIDE:
        raise InputError(f"{micrograph} is too small to test on: give one of {LEAST_SIDE} px a side and more")
    y, x = ((whole - side) // 2 for whole, side in zip(pixels.shape, sides, strict=True))
    cut = pixels[y : y + sides[0], x : x + sides[1]].astype(np.float64)
    return np.round((cut - cut.min()) / max(np.ptp(cut), 1e-9) * 255).astype(np.uint8)


def test_tensors(bundle: DenseBundle, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the zoo's programs are to give the network before its preprocessing, float32 `[1, 1, H, W]`, and the maps
    that it answers with, `[1, 2, H / 2, W / 2]`.

    Raises:
        InputError: for an image in which the network sees nothing, which would test nothing.
    """
    image = pixels.astype(np.float32)[None, None]
    low, high = np.percentile(image, bundle.percentiles)
    seen = np.clip((image - low) / (high - low + EPSILON), 0, 1) * (bundle.high - bundle.low) + bundle.low
    session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
    (maps,) = session.run(["maps"], {"image": seen.astype(np.float32)})
    if np.asarray(maps).max() < 0.5:
        raise InputError("the model finds nothing in the test input: give a micrograph= with particles of 20 to 160 px")
    return image, np.asarray(maps)


def opset(model: Path) -> int:
    """The version of ONNX's own operators that a graph uses."""
    versions = onnx.load(model, load_external_data=False).opset_import
    return max(version.version for version in versions if version.domain in ("", "ai.onnx"))


if __name__ == "__main__":
    run_command(main)
