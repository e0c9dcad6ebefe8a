"""Files that are whole or absent, whenever the process is killed or the disk is full, and their checksums."""

import csv
import hashlib
import json
import math
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from sempre import __version__
from sempre.errors import HOME

SOFTWARE = "sempre"  # how the origin begins that our pictures state, in TIFF's and PNG's field Software
ORIGIN = f"{SOFTWARE} {__version__}"
LONGEST_NAME = 255  # bytes of a file's name, where the file system does not say


@contextmanager
def whole_or_absent(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` for the block to write; it is flushed and renamed to `path` at the end.

    When the block fails the temporary file is removed and `path` is as it was.

    Raises:
        PermissionError: when `path` is protected, or open in a program that keeps others from writing it.
    """
    path = Path(path)
    partial = path.with_name(partial_name(path))
    try:
        yield partial
        with partial.open("r+b") as file:  # Windows flushes no file that is open for reading only
            os.fsync(file.fileno())
        try:
            partial.replace(path)
        except PermissionError as error:
            raise PermissionError(
                f"{path} cannot be written ({error.strerror}): close the program that has it open, or unprotect it"
            ) from error
    finally:
        partial.unlink(missing_ok=True)


def partial_name(path: Path) -> str:
    """The name of the temporary file of `path`: short enough for the file system wherever that of `path` is."""
    name = f".{path.name}.partial"
    if len(os.fsencode(name)) <= longest_name(path.parent):
        return name
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.partial"


def longest_name(folder: str | Path) -> int:
    """The most bytes that the name of a file in `folder`, or in the folder that it will be made in, may have."""
    if hasattr(os, "pathconf"):
        for at in (Path(folder), *Path(folder).absolute().parents):
            try:
                return min(int(os.pathconf(at, "PC_NAME_MAX")), LONGEST_NAME)
            except (OSError, ValueError):
                continue
    return LONGEST_NAME


@cache
def code_commit() -> str | None:
    """The commit that this sempre is of, with `-dirty` behind it where files have changed since; None if not known.

    A checkout's is git's; of an installation by `pip install git+https://…` pip has noted it.
    """
    with suppress(OSError, subprocess.SubprocessError):
        if (HOME / ".git").exists():
            told = ["git", "-C", str(HOME), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
            return subprocess.run(told, check=True, capture_output=True, text=True, timeout=10).stdout.strip() or None
    with suppress(PackageNotFoundError, ValueError, KeyError, TypeError):
        return str(json.loads(distribution("sempre").read_text("direct_url.json") or "{}")["vcs_info"]["commit_id"])
    return None


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON; numbers that are not finite become null, for JSON has none."""
    text = json.dumps(without_nan(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with whole_or_absent(path) as partial:
        # Names of files may hold what is no UTF-8; a backslash and its number is JSON's way to say it.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def without_nan(value: Any) -> Any:
    """`value` with None in the place of every float that is not finite, in dicts, lists and tuples too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: without_nan(item) for name, item in value.items()}
    return [without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal characters."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def files_below(folder: str | Path) -> list[Path]:
    """Every file below `folder`, sorted, also behind links to folders; hidden files and folders are passed over.

    What several ways lead to counts once, where it lies rather than behind a link: so links may go in circles.
    """
    waiting, seen, found = [Path(folder)], set(), []
    while waiting:
        for at, folders, files in os.walk(waiting.pop(0)):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if (real := os.path.realpath(at)) in seen:
                folders.clear()
                continue
            seen.add(real)
            found += [Path(at, name) for name in files if not name.startswith(".")]
            waiting += [Path(at, name) for name in folders if Path(at, name).is_symlink()]
    return sorted(found)


def write_csv(path: str | Path, rows: Sequence[Mapping]) -> None:
    """Rows as CSV, with a column for each name that any of them has. Whole or absent."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: str | Path) -> Any:
    """What a JSON file holds, in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        OSError: when it cannot be read.
        ValueError: as `parse_json` does.
    """
    return parse_json(Path(path).read_bytes())


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: when it is no JSON, or nested deeper than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
