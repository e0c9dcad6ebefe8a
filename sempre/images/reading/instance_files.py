"""Files of instances to score: label images, and run lengths of instances that overlap."""

from pathlib import Path

import numpy as np

from sempre.errors import InputError
from sempre.files import read_json
from sempre.images.instances import decode_rle
from sempre.images.reading.claims import check_size
from sempre.images.reading.label_images import read_labels


def read_instances(file: Path) -> tuple[np.ndarray | list[np.ndarray], list[float] | None]:
    """A label image int32 `[H, W]`; or of a `.json` file bool masks `[H, W]` and, where all have one, their scores.

    The JSON holds `{"size": [H, W], "instances": [{"counts": […], "score": …}]}`, run lengths as COCO's.

    Raises:
        InputError: for a file that is neither.
    """
    if file.suffix.lower() != ".json":
        return read_labels(file), None
    try:
        content = read_json(file)
        height, width = map(int, content["size"])
        check_size(file, (height, width))
        instances = content["instances"]
        masks = [decode_rle({"size": (height, width), "counts": instance["counts"]}) for instance in instances]
        scored = all("score" in instance for instance in instances)
        return masks, [float(instance["score"]) for instance in instances] if scored else None
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except (ValueError, OverflowError, KeyError, TypeError) as error:
        raise InputError(f"{file} holds no run lengths ({error!r}): it takes size and instances with counts") from error
