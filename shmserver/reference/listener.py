# SPDX-License-Identifier: MIT
"""The socket that clients connect to (section 2): made, locked, cleaned up."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress

from shmserver.reference.params import Params

BACKLOG = 128
PATH_BYTES = 108  # of sun_path, with its NUL
_KIND = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


class Listener:
    """Bound when it is made, so that another server cannot be; clients get in after start().

    A lock file beside the socket tells a socket of a running server from one that was left.
    """

    def __init__(self, params: Params) -> None:
        self.path = params.socket_path
        if len(os.fsencode(self.path)) >= PATH_BYTES:
            reason = f'socket path "{self.path[:150]}" is longer than {PATH_BYTES - 1} bytes'
            raise OSError(errno.ENAMETOOLONG, reason)
        self._lock_path = f"{self.path}.lock"
        self._lock_fd = _take_lock(self._lock_path, self.path)
        self._inode: tuple[int, int] | None = None
        self.socket = socket.socket(socket.AF_UNIX, _KIND)
        try:
            _remove_stale(self.path)
            self._bind(params)
        except BaseException:
            self.close()
            raise

    def _bind(self, params: Params) -> None:
        """The socket's own mode becomes the file's, so that it is never wider than asked."""
        try:
            os.fchmod(self.socket.fileno(), 0o600)
            self.socket.bind(self.path)
            found = os.lstat(self.path)
            self._inode = (found.st_dev, found.st_ino)
            if params.socket_owner is not None:
                os.lchown(self.path, *_owner(params.socket_owner))
            os.chmod(self.path, params["socket_mode"])  # noqa: PTH101
        except OSError as error:
            reason = f'cannot make socket "{self.path}": {error.strerror}'
            raise OSError(error.errno, reason) from None

    def start(self) -> None:
        self.socket.listen(BACKLOG)

    def stop(self) -> None:
        """No client gets in any more, and there is no file (section 12.3, step 1)."""
        with suppress(OSError):
            found = os.lstat(self.path)
            if self._inode == (found.st_dev, found.st_ino):
                os.unlink(self.path)  # noqa: PTH108
        self._inode = None
        self.socket.close()

    def close(self) -> None:
        self.stop()
        if self._lock_fd >= 0:
            with suppress(OSError):
                os.unlink(self._lock_path)  # noqa: PTH108
            os.close(self._lock_fd)
            self._lock_fd = -1


def _owner(owner: tuple[int, int]) -> tuple[int, int]:
    """chown(2) knows "unchanged" as an unsigned number, Python as -1."""
    uid, gid = (-1 if one == 2**32 - 1 else one for one in owner)
    return uid, gid


def _take_lock(lock_path: str, path: str) -> int:
    """A lock file that was unlinked meanwhile by its last owner does not count."""
    while True:
        try:
            fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise OSError(error.errno, f'cannot create "{lock_path}": {error.strerror}') from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.fstat(fd)
            with suppress(FileNotFoundError):
                if os.path.samestat(held, os.stat(lock_path)):  # noqa: PTH116
                    return fd
        except OSError as error:
            os.close(fd)
            number = errno.EADDRINUSE if error.errno == errno.EWOULDBLOCK else error.errno
            raise OSError(number, f'another server uses socket "{path}"') from None
        os.close(fd)


def _remove_stale(path: str) -> None:
    """Under the lock: a socket that nobody answers on."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(errno.ENOTSOCK, f'"{path}" exists and is not a socket')
    with socket.socket(socket.AF_UNIX, _KIND) as probe:
        if probe.connect_ex(path) != errno.ECONNREFUSED:  # busy, or of another kind: in use
            raise OSError(errno.EADDRINUSE, f'another server answers on socket "{path}"')
    os.unlink(path)  # noqa: PTH108
