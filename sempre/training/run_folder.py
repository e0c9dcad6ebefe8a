"""A run's folder: created once, gone on with when started again under the same options."""

from pathlib import Path

from sempre.config import changed_keys, save_options
from sempre.errors import InputError
from sempre.files import whole_or_absent


def open_run(folder: str | Path, options: object) -> Path:
    """Create `folder` with the resolved options in `config.yaml`, or go on with the run that is there.

    Raises:
        InputError: when the folder's run had other options; the message says which.
    """
    folder = Path(folder)
    saved = folder / "config.yaml"
    if saved.exists():
        if changes := changed_keys(options, saved):
            listed = "; ".join(changes)
            raise InputError(f"{folder} holds a run with other options ({listed}): give this one another name=")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with whole_or_absent(saved) as partial:
        save_options(options, partial)
    return folder
