"""What goes wrong by the user's hand, in one sentence on the page; bugs keep their traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import streamlit as st

from sempre.app.kept import folder
from sempre.errors import InputError, how_to_install, one_line


@contextmanager
def shown_errors() -> Iterator[None]:
    """An error of the user's or the file system's ends the page with its sentence."""
    try:
        yield
    except (InputError, OSError, MemoryError) as error:
        show_error(error)
        st.stop()


def show_error(error: BaseException) -> None:
    """The sentence of an error; of a dropped file's path only its name is the user's."""
    sentence = one_line(error) if not isinstance(error, MemoryError) else "this needs more memory than there is"
    own = [f"{place}/" for place in folder().iterdir() if place.is_dir()]
    for place in own:
        sentence = sentence.replace(place, "")
    st.error(sentence, icon=":material/error:")


def need_training(what: str) -> None:
    """End the page where PyTorch and its company are not installed."""
    lacking = [name for name in ("torch", "timm", "sklearn", "omegaconf") if find_spec(name) is None]
    if lacking:
        st.info(
            f"{what} look at micrographs through a backbone, which needs PyTorch: `{how_to_install('train,app')}`, "
            f"then start the cockpit again. Missing here: {', '.join(lacking)}. Segment works without.",
            icon=":material/download:",
        )
        st.stop()


def show_command(command: str) -> None:
    """The same thing for the terminal, with a button to copy it."""
    st.caption("The same in a terminal")
    st.code(command, language="bash", wrap_lines=True)
