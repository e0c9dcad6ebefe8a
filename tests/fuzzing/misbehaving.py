"""A format whose files are a letter each, which says how the reader ends."""

import os
from pathlib import Path

import numpy as np

from sempre.errors import InputError
from tests.fuzzing.cases import Format


def enter(path: Path) -> None:
    match path.read_text():
        case "f":
            raise InputError("refused")
        case "t":
            raise KeyError("missing")
        case "m":
            np.ones(1 << 29)  # 4 GB
        case "c":
            os.abort()
        case "h":
            while True:
                pass


def format_of(letter: str) -> Format:
    """Its one whole file is read; every case is the letter."""
    return Format(letter, ".txt", lambda: [b"r"], lambda content, random: letter.encode(), enter)


FORMATS = {letter: format_of(letter) for letter in "rftmch"}
