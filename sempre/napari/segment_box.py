"""*Segment this layer*: a model over an image layer, the particles as a labels layer."""

from collections import deque

import napari
import numpy as np
from napari.layers import Image
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFileDialog, QFormLayout, QGroupBox, QProgressBar, QPushButton

from sempre.deploy.released import DEFAULT, find_bundle, released_names
from sempre.deploy.segmenter import Segmentation, Segmenter
from sempre.errors import InputError
from sempre.images import PixelSize, as_pixel_size
from sempre.napari.layers import labels_layer, layer_pixel_size, micrograph_pixels

MOST_NM = 1e6  # per px
PERIOD = 100  # ms between two looks at the progress


class SegmentBox(QGroupBox):
    """The models that come with sempre, bundles that were added, and the button that uses one on the chosen layer."""

    said = Signal(str)

    def __init__(self, viewer: napari.Viewer):
        super().__init__("Segment")
        self.viewer, self.worker = viewer, None
        self.image: Image | None = None
        self.in_work: Image | None = None
        self.models = QComboBox()
        for name in sorted(released_names(), key=lambda name: name != DEFAULT):
            self.models.addItem(name, name)
        add = QPushButton("Add a bundle …")
        add.clicked.connect(self._choose_bundle)
        self.pixel_size, self.pixel_height = QDoubleSpinBox(), QDoubleSpinBox()
        for box, special in ((self.pixel_size, "unknown"), (self.pixel_height, "square")):
            box.setDecimals(4)
            box.setMaximum(MOST_NM)
            box.setSpecialValueText(special)
            box.setSuffix(" nm")
        self.button, self.bar = QPushButton("Segment this layer"), QProgressBar()
        self.button.clicked.connect(self.segment)
        # The thread that segments leaves here how far it is: it may outlive the box, whose signals would be gone then.
        self.looks: deque[tuple[int, int]] = deque(maxlen=1)
        self.timer = QTimer(self)
        self.timer.timeout.connect(self._show_progress)
        self.timer.setInterval(PERIOD)
        form = QFormLayout(self)
        form.addRow("Model", self.models)
        form.addRow("", add)
        form.addRow("Pixel size", self.pixel_size)
        form.addRow("Pixel height", self.pixel_height)
        form.addRow(self.button)
        form.addRow(self.bar)

    def choose_image(self, image: Image | None) -> None:
        """Segment this layer from now on; its pixel size is shown where it is known."""
        self.image = image
        size = layer_pixel_size(image) if image is not None else None
        self.pixel_size.setValue(size.x if size else 0.0)
        self.pixel_height.setValue(size.y if size and not size.is_square else 0.0)

    def _pixel_size(self) -> PixelSize | None:
        """What the two boxes say; None where the first says that it is unknown."""
        width = self.pixel_size.value()
        return as_pixel_size((width, self.pixel_height.value() or width)) if width else None

    def add_bundle(self, folder: str) -> None:
        """Offer the bundle in `folder`, and choose it."""
        if self.models.findData(folder) < 0:
            self.models.addItem(folder, folder)
        self.models.setCurrentIndex(self.models.findData(folder))

    def segment(self) -> None:
        """Begin to segment the chosen layer in a thread of its own; a labels layer is added at the end."""
        try:
            if self.image is None:
                raise InputError("there is no image layer to segment: open a micrograph first")
            pixels = micrograph_pixels(self.image)
        except InputError as error:
            self.said.emit(str(error))
            return
        self.button.setEnabled(False)
        self.in_work = self.image
        self.worker = create_worker(segment_pixels, pixels, self.models.currentData(), self._pixel_size(), self.looks)
        # Methods, not lambdas: Qt calls no method of a box that was closed while the thread went on.
        self.worker.returned.connect(self._add)
        self.worker.errored.connect(self._say)
        self.worker.finished.connect(self._end)
        self.timer.start()
        self.worker.start()

    def _add(self, segmentation: Segmentation) -> None:
        assert self.in_work is not None
        self.viewer.add_layer(labels_layer(segmentation, self.in_work))
        self.said.emit(f"{self.in_work.name}: {len(segmentation.particles)} particles")

    def _say(self, error: Exception) -> None:
        self.said.emit(str(error))

    def _end(self) -> None:
        self.timer.stop()
        self._show_progress()
        self.button.setEnabled(True)

    def _show_progress(self) -> None:
        if self.looks:
            done, of = self.looks.pop()
            self.bar.setMaximum(of)
            self.bar.setValue(done)

    def _choose_bundle(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A bundle, as tools/export_onnx.py writes it")
        if folder:
            self.add_bundle(folder)


def segment_pixels(
    pixels: np.ndarray, model: str, size: PixelSize | None, looks: deque[tuple[int, int]]
) -> Segmentation:
    """`Segmenter.segment` of a layer's pixels `[H, W]` with a bundle's folder or a released model's name.

    `looks` gets how often the network has looked, and how often it will.
    """
    segmenter = Segmenter(find_bundle(model))
    return segmenter.segment(pixels, size, progress=lambda done, of: looks.append((done, of)))
