"""Files of a folder and of the ZIP archives in it, as one listing; archives are read as files of strangers."""

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sempre.errors import InputError
from sempre.files import files_below, whole_or_absent

MOST_MEMBERS = 500_000
LARGEST_MEMBER = 1 << 30  # bytes
COPIED = 1 << 20  # bytes at a time


@dataclass(frozen=True)
class Packed:
    """A file in an archive."""

    archive: zipfile.ZipFile
    member: zipfile.ZipInfo

    @property
    def size(self) -> int:
        return self.member.file_size


class FilesAndArchives:
    """The files of a folder, and those in the ZIP archives in it, by their paths.

    What lies in `a/b.zip` as `c/d.tif` is listed as `a/b/c/d.tif`, or as `a/c/d.tif` where the archive's folder is
    called as the archive is (`c` = `b`). A file that is unpacked already goes before the one in an archive. Hidden
    files, and what macOS adds to archives, are passed over. `source` may be an archive. Use it in a `with` block.

    Raises:
        InputError: for a source that is not there, and an archive that is damaged, encrypted, has more than 500,000
            members, or a member with a path that leads out of its folder, a link, or one of more than 1 GiB.
    """

    def __init__(self, source: str | Path):
        self.source = Path(source)
        self._open = ExitStack()
        self.files: dict[str, Path | Packed] = {}
        if self.source.is_file():
            base, plain = self.source.parent, [self.source]
        elif self.source.is_dir():
            base, plain = self.source, files_below(self.source)
        else:
            raise InputError(f"{source} is neither a folder nor a file: give what was downloaded")
        archives = [file for file in plain if file.suffix.lower() == ".zip"]
        self.files = {file.relative_to(base).as_posix(): file for file in plain if file not in set(archives)}
        try:
            for archive in archives:
                for path, packed in self._members(archive, archive.relative_to(base).as_posix()):
                    self.files.setdefault(path, packed)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> "FilesAndArchives":
        return self

    def __exit__(self, *_) -> None:
        self._open.close()

    def _members(self, file: Path, path: str) -> Iterable[tuple[str, Packed]]:
        try:
            archive = self._open.enter_context(zipfile.ZipFile(file))
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise InputError(f"{file} is no ZIP archive that can be read ({error}): download it again") from error
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise InputError(f"{file} has {len(members)} members, more than {MOST_MEMBERS}: unpack it yourself")
        top = PurePosixPath(path).with_suffix("")
        for member in members:
            # Programs of Windows wrote backslashes into archives, where the standard asks for slashes.
            inside = PurePosixPath(member.filename.replace("\\", "/"))
            if member.is_dir() or any(part.startswith(".") and part != ".." for part in inside.parts):
                continue
            if "__MACOSX" in inside.parts:
                continue
            if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
                raise InputError(
                    f"{file} has the member {member.filename}, which leads out of its folder: it is not read"
                )
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(f"{file} has the member {member.filename}, which is a link: it is not read")
            if member.file_size > LARGEST_MEMBER:
                raise InputError(f"{file} has the member {member.filename} of {member.file_size} bytes: it is not read")
            own = top.parent if inside.parts[0].casefold() == top.name.casefold() else top
            yield (own / inside).as_posix(), Packed(archive, member)

    def check_room(self, paths: Iterable[str], folder: Path) -> None:
        """Whether `folder`'s disk has room for those of the files that lie in archives.

        Raises:
            InputError: where it has not.
        """
        needed = sum(file.size for file in map(self.files.__getitem__, paths) if isinstance(file, Packed))
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise InputError(f"{folder} has {free} bytes left and {needed} are to be unpacked: choose another out")

    def bring(self, path: str, to: Path, link: bool = False) -> None:
        """Write the file of this path to `to`, whole or absent; `link` makes a hard link where the disk allows it.

        Raises:
            InputError: for a damaged or encrypted member.
        """
        file = self.files[path]
        with whole_or_absent(to) as partial:
            if isinstance(file, Packed):
                _unpack(file, partial)
            elif not (link and _linked(file, partial)):
                shutil.copyfile(file, partial)

    def size(self, path: str) -> int:
        """Bytes of the file of this path."""
        file = self.files[path]
        return file.size if isinstance(file, Packed) else file.stat().st_size


def _unpack(file: Packed, to: Path) -> None:
    name = f"{file.archive.filename}: {file.member.filename}"
    try:
        with file.archive.open(file.member) as packed, to.open("wb") as whole:
            shutil.copyfileobj(packed, whole, COPIED)  # reads no more than the size that was checked
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"{name} cannot be unpacked ({error}): download the archive again") from error


def _linked(file: Path, to: Path) -> bool:
    if not os.access(file, os.W_OK):  # it could not be flushed to the disk under its second name
        return False
    try:
        os.link(file.resolve(), to)
    except OSError:
        return False
    return True
