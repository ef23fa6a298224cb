# SPDX-License-Identifier: MIT
"""Where data goes: a volume or file, made when missing, and taken away again when that fails."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import shmclient
from shmclient.cli import ranges
from shmclient.cli.endpoints import (
    SECTOR_BYTES,
    FileTarget,
    StreamTarget,
    VolumeTarget,
    unit_of,
    whole,
)
from shmclient.cli.pump import SETTLE_S, Background
from shmclient.console import Failure, Interrupted, doing, interruptible, note
from shmclient.units import format_size


class Destination(Protocol):
    def undo(self) -> None:
        """Take back what is new, and say what cannot be."""

    def close(self) -> None: ...


SomeDestination = TypeVar("SomeDestination", bound=Destination)


@contextmanager
def unfinished(destination: SomeDestination) -> Iterator[SomeDestination]:
    """A failure or a signal inside undoes the destination."""
    with interruptible():
        try:
            yield destination
        except BaseException as error:
            if isinstance(error, Interrupted):
                note("interrupted")
            destination.undo()
            raise
        finally:
            destination.close()


class VolumeDestination:
    def __init__(self, server: shmclient.Connection, name: str) -> None:
        self._server = server
        self._name = name
        self._what = f'volume "{name}"'
        self._creation: Background[None] | None = None
        self._opening: Background[shmclient.Volume] | None = None
        self._written = False

    def create_or_open(self, size_bytes: int | None) -> bool:
        """Whether it is new.  Without a size it is as small as can be."""
        create = partial(self._server.create, self._name, size_bytes or SECTOR_BYTES)
        self._creation = Background(create)
        with doing(f"create {self._what}"):
            try:
                self._creation.start().result()
            except FileExistsError:
                return False
        return True

    def open(self) -> shmclient.Volume:
        self._opening = Background(partial(self._server.open, self._name, writable=True))
        with doing(f"open {self._what}"):
            return self._opening.start().result()

    def prepare(
        self, size_bytes: int | None, *, new_only: bool, overwrite: bool
    ) -> tuple[shmclient.Volume, VolumeTarget]:
        """Create or open it, to take so much; without a size a new one grows.

        new_only: the size is one that only a new volume can have.
        """
        new = self.create_or_open(size_bytes)
        volume = self.open()
        fresh = new or Background(partial(_is_zero, volume)).start().result()
        growing = new and size_bytes is None
        self._fit_blocks(volume, new, growing)
        if not new:
            if new_only:
                raise Failure(f"{self._what} exists; --size is for a new one")
            if size_bytes and volume.size_bytes < size_bytes:
                raise Failure(
                    f"{self._what} is smaller than that: {format_size(volume.size_bytes)}, "
                    f"not {format_size(size_bytes)}; `shmclient resize` makes it larger"
                )
            if not fresh and not overwrite:
                raise Failure(
                    f"{self._what} exists and is not empty; --overwrite replaces what is in it"
                )
        self._written = True
        return volume, VolumeTarget(volume, self._what, fresh=fresh, growing=growing)

    def _fit_blocks(self, volume: shmclient.Volume, new: bool, growing: bool) -> None:
        """Only whole blocks can be written: a new volume gets as many as it takes."""
        size_bytes, block_bytes = volume.size_bytes, volume.limits.block_bytes
        fitting = whole(size_bytes, unit_of(volume))
        if fitting == size_bytes:
            return
        blocks = f"blocks of {format_size(block_bytes)}"
        if not new:
            raise Failure(
                f"{self._what} has {size_bytes} bytes, which are no whole {blocks}: its end cannot "
                f"be written; `shmclient resize` to {fitting} makes it whole"
            )
        with doing(f"make {self._what} of whole {blocks}, {fitting} bytes; give it that --size"):
            Background(partial(volume.resize, fitting)).start().result()
        if not growing:
            note(f"{self._what} is made of whole {blocks}: it has {fitting} bytes")

    def undo(self) -> None:
        if not self._creation:
            return
        try:
            self._creation.result(SETTLE_S)
        except FileExistsError:
            if self._written:
                note(f"{self._what} has only a part of the new data")
            return
        except TimeoutError:
            note(f"{self._what} may be left, unfinished: the server does not answer")
            return
        except OSError:
            return
        note(f"removing the unfinished {self._what}")
        self.close()
        try:
            self._server.remove(self._name)
        except OSError as error:
            note(f"it is left: {error.strerror}")

    def close(self) -> None:
        try:
            if self._opening:
                self._opening.result(SETTLE_S).close()
        except OSError:
            pass  # it never was open


def _is_zero(volume: shmclient.Volume) -> bool:
    return all(one.zero for one in ranges.of_volume(volume, 0, volume.size_bytes))


class FileDestination:
    """A regular file, a block device, or something to write from front to back."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._what = f'"{path}"'
        self._fd: int | None = None
        self._new = False
        self._written = False

    def prepare(self, size_bytes: int, *, overwrite: bool) -> FileTarget | StreamTarget:
        self._fd = fd = self._open()
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            return StreamTarget(fd, self._what)
        present = os.lseek(fd, 0, os.SEEK_END)
        if present and not overwrite:
            raise Failure(f"{self._what} exists and is not empty; --overwrite replaces it")
        if stat.S_ISBLK(mode) and present < size_bytes:
            raise Failure(f"{self._what} is too small: it has {format_size(present)}")
        self._written = True
        if stat.S_ISREG(mode):
            with doing(f"write {self._what}"):
                os.ftruncate(fd, 0)
                os.ftruncate(fd, size_bytes)
        return FileTarget(fd, self._what, fresh=stat.S_ISREG(mode))

    def _open(self) -> int:
        with doing(f"open {self._what}"):
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                self._new = True
            except FileExistsError:
                fd = os.open(self._path, os.O_WRONLY)
        return fd

    def undo(self) -> None:
        if self._new:
            note(f"removing the unfinished {self._what}")
            Path(self._path).unlink(missing_ok=True)
        elif self._written:
            note(f"{self._what} has only a part of the new data")

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
