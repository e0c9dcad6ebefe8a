"""Scale bars that are burnt into micrographs: their line, their text, and the pixel size that follows."""

from sempre.images.scale_bar.reading import ScaleBar, read_scale_bar
from sempre.images.scale_bar.text import Reader

__all__ = ["Reader", "ScaleBar", "read_scale_bar"]
