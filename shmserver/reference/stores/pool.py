# SPDX-License-Identifier: MIT
"""A pool's directories (docs/STORES.md, file): names below a descriptor, no link ever followed.

    POOL/dir/vol                               the volume "dir/vol"
    POOL/.openvstorage/lock                    held by the server, with its pid
    POOL/.openvstorage/snapshots/VOLUME/NAME   its snapshots, ordered by modification time
    POOL/.openvstorage/tmp/                    files under construction; emptied at start

A file appears under its name only when it is complete and on disk.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

OWN = ".openvstorage"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


# ---- below a directory ----


def enter(root: int, path: str, *, make: bool = False) -> int:
    """The descriptor of a directory; made on demand, durably.  Component by component, so that a
    link in the way is ENOTDIR."""
    fd = os.open(".", _DIRECTORY, dir_fd=root)
    for name in path.split("/") if path else []:
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
                    os.fsync(fd)
            following = os.open(name, _DIRECTORY, dir_fd=fd)
        except OSError as error:
            number = errno.ENOTDIR if error.errno == errno.ELOOP else error.errno
            raise OSError(number, os.strerror(number or errno.EIO)) from None
        finally:
            os.close(fd)
        fd = following
    return fd


@contextmanager
def parent(root: int, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """The directory that path is in, and the name it has there."""
    directory, _, leaf = path.rpartition("/")
    fd = enter(root, directory, make=make)
    try:
        yield fd, leaf
    finally:
        os.close(fd)


def open_regular(root: int, path: str, flags: int) -> int:
    """A regular file; anything else is FileNotFoundError."""
    missing = FileNotFoundError(errno.ENOENT, f'there is no file "{path}"')
    try:
        with parent(root, path) as (directory, leaf):
            # Without O_NONBLOCK a fifo would hold us here.
            flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            fd = os.open(leaf, flags, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENOENT):
            raise missing from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise missing
    return fd


def status(root: int, path: str) -> os.stat_result:
    """Of a regular file, not opened.  FileNotFoundError."""
    missing = FileNotFoundError(errno.ENOENT, f'there is no file "{path}"')
    try:
        with parent(root, path) as (directory, leaf):
            found = os.stat(leaf, dir_fd=directory, follow_symlinks=False)
    except NotADirectoryError:
        raise missing from None
    if not stat.S_ISREG(found.st_mode):
        raise missing
    return found


def exists(root: int, path: str) -> bool:
    """Whatever it is."""
    try:
        with parent(root, path) as (directory, leaf):
            os.stat(leaf, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def regular_files(root: int, path: str) -> list[tuple[str, os.stat_result]]:
    """Those in a directory, by name; none when there is no such directory."""
    found = []
    try:
        fd = enter(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        for name in os.listdir(fd):  # noqa: PTH208
            with suppress(FileNotFoundError):
                one = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(one.st_mode):
                    found.append((name, one))
    finally:
        os.close(fd)
    return found


def walk(root: int, directory: str = "") -> Iterator[str]:
    """The names of all regular files below, without what is the store's own."""
    try:
        fd = enter(root, directory)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # just removed, or not for us
    try:
        with os.scandir(fd) as entries:
            found = [
                (
                    entry.name,
                    entry.is_dir(follow_symlinks=False),
                    entry.is_file(follow_symlinks=False),
                )
                for entry in entries
            ]
    finally:
        os.close(fd)
    for name, is_directory, is_file in found:
        path = f"{directory}/{name}" if directory else name
        if is_file:
            yield path
        elif is_directory and name != OWN:
            yield from walk(root, path)


def prune(root: int, path: str) -> None:
    """Remove the directories above path as long as they are empty."""
    directory = path
    while "/" in directory:
        directory = directory.rpartition("/")[0]
        try:
            with parent(root, directory) as (fd, leaf):
                os.rmdir(leaf, dir_fd=fd)
                os.fsync(fd)
        except OSError:
            return


def unlink(root: int, path: str) -> None:
    """Durably, with the directories that have become empty."""
    with parent(root, path) as (directory, leaf):
        os.unlink(leaf, dir_fd=directory)
        os.fsync(directory)
    prune(root, path)


def remove_directory(root: int, path: str) -> None:
    """With the regular files in it; one that is not there is fine."""
    for name, _ in regular_files(root, path):
        with suppress(FileNotFoundError), parent(root, f"{path}/{name}") as (directory, leaf):
            os.unlink(leaf, dir_fd=directory)
    try:
        with parent(root, path) as (directory, leaf):
            os.rmdir(leaf, dir_fd=directory)
            os.fsync(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    prune(root, path)


# ---- the pool ----


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


class Pool:
    """A pool that is ours alone until close(), or until we die."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._numbers = itertools.count()
        self._fds: list[int] = []
        self.close = weakref.finalize(self, _close_all, self._fds)
        try:
            self.root = self._keep(self._open_root())
            own = self._make_directory(self.root, OWN)
            lock_flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = self._keep(os.open("lock", lock_flags, 0o600, dir_fd=own))
            self._take_lock()
            self.snapshots = self._make_directory(own, "snapshots")
            self.tmp = self._make_directory(own, "tmp")
            os.fsync(own)
            os.fsync(self.root)
            for name, _ in regular_files(self.tmp, ""):
                os.unlink(name, dir_fd=self.tmp)
        except OSError as error:
            self.close()
            reason = f"pool directory {path[:150]}: {error.strerror}"
            raise OSError(error.errno, reason) from None

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _open_root(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise OSError(errno.ENOENT, "it does not exist: create it first") from None
        except NotADirectoryError:
            raise OSError(errno.ENOTDIR, "it is not a directory") from None

    def _make_directory(self, root: int, name: str) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=root)
        return self._keep(enter(root, name))

    def _take_lock(self) -> None:
        """The kernel drops it when we die; the pid in it is for people."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise OSError(errno.EBUSY, f"in use by another server (pid {pid})") from None
        with suppress(OSError):  # a full disk must not keep people from removing what fills it
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    # ---- files under construction ----

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A new file without a name in the pool; what has not got one at the end is gone."""
        name = str(next(self._numbers))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = Draft(os.open(name, flags, 0o600, dir_fd=self.tmp), name, self.tmp)
        try:
            yield made
        finally:
            if not made.taken:
                os.close(made.fd)
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.tmp)


class Draft:
    """taken: somebody else closes the descriptor."""

    def __init__(self, fd: int, name: str, tmp: int) -> None:
        self.fd = fd
        self.taken = False
        self._name = name
        self._tmp = tmp

    def link(self, root: int, path: str) -> None:
        """It appears, whole, under a name that is free.  FileExistsError."""
        os.fsync(self.fd)
        try:
            with parent(root, path, make=True) as (directory, leaf):
                os.link(self._name, leaf, src_dir_fd=self._tmp, dst_dir_fd=directory)
                os.fsync(directory)
        except OSError:
            prune(root, path)
            raise

    def replace(self, root: int, path: str) -> None:
        """It takes the place of the file that has this name, at once."""
        os.fsync(self.fd)
        with parent(root, path) as (directory, leaf):
            os.rename(self._name, leaf, src_dir_fd=self._tmp, dst_dir_fd=directory)
            os.fsync(directory)
            os.fsync(self._tmp)
