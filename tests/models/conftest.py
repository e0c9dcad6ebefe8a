from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempre.data.labelled import LabelledSet


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSet:
    """A micrograph of 8x8 px, which does not say its pixel size."""
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / f"set/{folder}/a.png")
    return LabelledSet(tmp_path / "set", percentiles=(2.0, 98.0))
