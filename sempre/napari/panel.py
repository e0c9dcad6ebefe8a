"""The panel of the plugin: which layers, what to do with them, and what came of it."""

import napari
from napari.layers import Image, Labels
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from sempre.napari.segment_box import SegmentBox
from sempre.napari.training_box import TrainingBox


class Panel(QWidget):
    """The viewer's image and labels layers to choose from, `SegmentBox`, `TrainingBox`, and a line of news."""

    def __init__(self, viewer: napari.Viewer):
        super().__init__()
        self.viewer = viewer
        self.images, self.labels, self.news = QComboBox(), QComboBox(), QLabel()
        self.news.setWordWrap(True)
        self.segmenting, self.training = SegmentBox(viewer), TrainingBox()
        self.images.currentIndexChanged.connect(self._choose)
        self.labels.currentIndexChanged.connect(self._choose)
        for box in (self.segmenting, self.training):
            box.said.connect(self.news.setText)
        self.training.bundle_made.connect(self.segmenting.add_bundle)
        for happened in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.renamed):
            happened.connect(self._list_layers)
        chosen = QFormLayout()
        chosen.addRow("Image", self.images)
        chosen.addRow("Labels", self.labels)
        layout = QVBoxLayout(self)
        layout.addLayout(chosen)
        for part in (self.segmenting, self.training, self.news):
            layout.addWidget(part)
        layout.addStretch()
        self._list_layers()

    def _list_layers(self) -> None:
        """Offer the layers that are there; a choice stays, and a new layer is chosen."""
        for box, kind in ((self.images, Image), (self.labels, Labels)):
            before = {box.itemData(index) for index in range(box.count())}
            chosen = box.currentData()
            layers = [layer for layer in self.viewer.layers if isinstance(layer, kind)]
            new = [layer for layer in layers if layer not in before]
            box.blockSignals(True)
            box.clear()
            for layer in layers:
                box.addItem(layer.name, layer)
            wanted = new[-1] if new else chosen
            box.setCurrentIndex(layers.index(wanted) if wanted in layers else len(layers) - 1)
            box.blockSignals(False)
        self._choose()

    def _choose(self) -> None:
        image = self.images.currentData()
        if image is not self.segmenting.image:
            self.segmenting.choose_image(image)
        self.training.image, self.training.labels = image, self.labels.currentData()
