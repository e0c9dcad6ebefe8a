"""For all tests: what files can and cannot do on Windows, on any system; and examples may take as long as they do.

Files with slow tests come first, so that at the end no worker waits for the other.
"""

import builtins
import errno
import io
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

RESERVED = re.compile(r'[<>:"|?*\x00-\x1f]|[ .]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)

# A busy machine is no fault of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


class Windows:
    """Refuses what Windows refuses; `held` are the files that another program has open, as Excel has its tables."""

    def __init__(self):
        self.held: set[Path] = set()

    def check_writable(self, path) -> None:
        if Path(path) in self.held:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def check_name(self, path) -> None:
        if RESERVED.search(Path(path).name):
            raise OSError(errno.EINVAL, "Invalid argument", str(path))


@pytest.fixture
def like_windows(monkeypatch):
    """Make `os` and `open` as strict as on Windows: a copy of its rules, not the system itself."""
    windows = Windows()
    opened, fsync, mkdir, replace, rename = open, os.fsync, os.mkdir, os.replace, os.rename

    def strict_open(file, mode="r", *arguments, **options):
        if not isinstance(file, int) and set(mode) & set("wax+"):
            windows.check_name(file)
            windows.check_writable(file)
        return opened(file, mode, *arguments, **options)

    def strict_fsync(descriptor):
        fcntl = pytest.importorskip("fcntl")
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(descriptor)

    def strict_mkdir(path, *arguments, **options):
        windows.check_name(path)
        mkdir(path, *arguments, **options)

    def strict_replace(source, target):
        windows.check_name(target)
        windows.check_writable(target)
        replace(source, target)

    def strict_rename(source, target):
        windows.check_name(target)
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(target))
        rename(source, target)

    monkeypatch.setattr(builtins, "open", strict_open)
    monkeypatch.setattr(io, "open", strict_open)
    if os.name != "nt":  # which is strict by itself
        monkeypatch.setattr(os, "fsync", strict_fsync)
        monkeypatch.setattr(os, "rename", strict_rename)
    monkeypatch.setattr(os, "mkdir", strict_mkdir)
    monkeypatch.setattr(os, "replace", strict_replace)
    return windows


@pytest.fixture
def begin_chain(monkeypatch, tmp_path):
    """`begin_chain(main, *options)`: a tool's `main`, in the test's folder, whose recipes are started warm."""
    from sempre.study import cells  # here, for the base install has tests too, and no PyTorch
    from sempre.training import recipe_chain
    from tests.warm import WarmProcess

    def start(command: list[str], env: Mapping[str, str] | None = None, **outputs: object) -> WarmProcess:
        return WarmProcess(command, env=env)

    warm = SimpleNamespace(Popen=start, call=lambda command: start(command).wait())

    def begin(main, *options: str) -> None:
        for module in (cells, recipe_chain, sys.modules[main.__module__]):
            monkeypatch.setattr(module, "subprocess", warm, raising=False)
        monkeypatch.setattr(sys, "argv", [main.__module__, *options])
        monkeypatch.chdir(tmp_path)
        main()

    return begin
