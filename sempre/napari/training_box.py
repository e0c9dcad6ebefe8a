"""*Save as labelled set* and *Fine-tune on these*: from corrected labels to a bundle of one's own."""

import shlex

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QWidget,
)

from sempre.data.labelled_folder import save_labelled
from sempre.deploy.released import DEFAULT
from sempre.errors import InputError
from sempre.napari.fine_tuning import FineTuning
from sempre.napari.layers import layer_pixel_size, micrograph_pixels


class TrainingBox(QGroupBox):
    """The labelled set's folder, the buttons that add to it and train on it; `bundle_made` gives the new bundle."""

    said = Signal(str)
    bundle_made = Signal(str)

    def __init__(self):
        super().__init__("Label and fine-tune")
        self.image: Image | None = None
        self.labels: Labels | None = None
        self.folder, folder_row = _folder_field("The labelled set's folder")
        self.save_button, self.start_button = QPushButton("Save as labelled set"), QPushButton("Fine-tune on these")
        self.cancel_button, self.bar = QPushButton("Cancel"), QProgressBar()
        self.name, self.options = QLineEdit("napari_1"), QLineEdit(f"start={DEFAULT}")
        self.epochs = QSpinBox()
        self.epochs.setRange(1, 10_000)
        self.epochs.setValue(10)
        self.options.setToolTip("further options of finetune/dense.py, as key=value")
        self.fine_tuning = FineTuning(self)
        self.save_button.clicked.connect(self.save)
        self.start_button.clicked.connect(self.start)
        self.cancel_button.clicked.connect(self.fine_tuning.cancel)
        self.fine_tuning.progressed.connect(self._show_progress)
        self.fine_tuning.finished.connect(self._finished)
        self.fine_tuning.failed.connect(self._failed)
        self._show_running(False)
        form = QFormLayout(self)
        form.addRow("Labelled set", folder_row)
        form.addRow(self.save_button)
        form.addRow("Name of the run", self.name)
        form.addRow("Epochs", self.epochs)
        form.addRow("Options", self.options)
        form.addRow(self.start_button)
        form.addRow(self.cancel_button)
        form.addRow(self.bar)

    def save(self) -> None:
        """Add the chosen image and labels to the labelled set."""
        try:
            if self.image is None or self.labels is None:
                raise InputError("an image layer and its labels layer are needed: segment the image, or add labels")
            if not self.folder.text():
                raise InputError("choose the labelled set's folder first")
            pixels = micrograph_pixels(self.image)
            size = layer_pixel_size(self.image)
            save_labelled(self.folder.text(), self.image.name, pixels, self.labels.data, size)
        except (InputError, OSError) as error:
            self.said.emit(str(error))
        else:
            self.said.emit(f"{self.image.name} is saved in {self.folder.text()}")

    def start(self) -> None:
        """Start the fine-tuning on the labelled set, beside napari."""
        try:
            if not self.folder.text():
                raise InputError("choose the labelled set's folder first")
            options = [f"epochs={self.epochs.value()}", *shlex.split(self.options.text())]
            self.fine_tuning.start(self.folder.text(), self.name.text(), options)
        except ValueError as error:  # InputError, and quotes that do not close
            self.said.emit(str(error))
        else:
            self._show_running(True)
            self.said.emit("the fine-tuning starts")

    def _show_progress(self, what: str, done: int, of: int) -> None:
        self.said.emit(f"fine-tuning: {what}")
        self.bar.setMaximum(of)
        self.bar.setValue(done)

    def _finished(self, bundle: str) -> None:
        self._show_running(False)
        self.name.setText(_next_name(self.name.text()))
        self.said.emit(f"the new bundle {bundle} is chosen: segment with it")
        self.bundle_made.emit(bundle)

    def _failed(self, reason: str) -> None:
        self._show_running(False)
        self.said.emit(reason)

    def _show_running(self, running: bool) -> None:
        self.start_button.setEnabled(not running)
        self.cancel_button.setEnabled(running)
        self.bar.setVisible(running)


def _next_name(name: str) -> str:
    """`napari_2` after `napari_1`: what was labelled since is learnt in a run of its own."""
    stem, _, number = name.rpartition("_")
    return f"{stem}_{int(number) + 1}" if stem and number.isdecimal() else f"{name}_2"


def _folder_field(title: str) -> tuple[QLineEdit, QWidget]:
    """A line for a folder, and the row of it and a button to choose one."""
    line, row, button = QLineEdit(), QWidget(), QPushButton("…")
    button.clicked.connect(lambda: line.setText(QFileDialog.getExistingDirectory(row, title) or line.text()))
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(line)
    layout.addWidget(button)
    return line, row
