"""Errors a user can mend, and how a command shows them."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

HOME = Path(__file__).parents[1]  # the repository's folder, unless sempre was installed from a wheel


class InputError(ValueError):
    """Something the user gave is wrong. The message is one sentence: the offending value and the way out."""


def how_to_install(extra: str) -> str:
    """The command that installs one of sempre's extras, from any folder: sempre is in no package index."""
    home = HOME if (HOME / "setup.py").is_file() else "path/to/sempre"
    return f"pip install -e '{home}[{extra}]'"


@contextmanager
def one_input_error(sentence: Callable[[str], str]) -> Iterator[None]:
    """Whatever is raised in the block is one `InputError`: damaged files break the libraries of their formats in every
    way there is. `sentence` gets the reason, on one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(sentence(" ".join(str(error).split()) or type(error).__name__)) from error


@cache  # a file that is read again says the same
def warn(sentence: str) -> None:
    """Say once on stderr what a user should know while the work goes on; of several processes the first one does."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {sentence}", file=sys.stderr, flush=True)


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit; what the user can mend is printed as one line, bugs keep their traceback.

    The exit code is `main`'s own (None counts as 0), 2 for an `InputError` or an error of the file system
    (missing file, full disk), 130 when interrupted.
    """
    # A console of Windows knows few letters; those of a file's name that it lacks must not end the command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main() or 0
    except (InputError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
