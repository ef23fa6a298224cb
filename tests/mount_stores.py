# SPDX-License-Identifier: MIT
"""A store whose volumes are of any size, and which keeps what it has been shown."""

import os
import tempfile
from pathlib import Path

import shmserver


class Keeping(shmserver.Store):
    """Files in a temporary directory.

    It keeps a view of the memory of all that is written, as a cache might, and flush() fails if
    that has changed.
    """

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.kept: list[tuple[memoryview, bytes]] = []

    def shutdown(self) -> None:
        self.kept.clear()
        self.directory.cleanup()

    def path(self, name: str) -> Path:
        return Path(self.directory.name, name.replace("/", "\\"))

    def create(self, name: str, size_bytes: int) -> None:
        self.path(name).touch()
        os.truncate(self.path(name), size_bytes)

    def remove(self, name: str) -> None:
        self.path(name).unlink()

    def size(self, name: str) -> int:
        return self.path(name).stat().st_size

    def list(self) -> list[str]:
        return [path.name.replace("\\", "/") for path in Path(self.directory.name).iterdir()]

    def resize(self, name: str, size_bytes: int) -> None:
        os.truncate(self.path(name), size_bytes)

    def truncate(self, name: str, size_bytes: int) -> None:
        os.truncate(self.path(name), size_bytes)

    def rename(self, name: str, new_name: str) -> None:
        self.path(name).replace(self.path(new_name))

    def open(self, name: str) -> int:
        return os.open(self.path(name), os.O_RDWR)

    def close(self, volume: int) -> None:
        os.close(volume)

    def pread(self, volume: int, buffer: memoryview, offset_bytes: int) -> int:
        return os.preadv(volume, [buffer], offset_bytes)

    def pwrite(self, volume: int, buffer: memoryview, offset_bytes: int) -> int:
        self.kept.append((buffer, bytes(buffer)))
        return os.pwrite(volume, buffer, offset_bytes)

    def flush(self, volume: int) -> None:
        if any(view != data for view, data in self.kept):
            raise OSError("memory that is held has changed")
