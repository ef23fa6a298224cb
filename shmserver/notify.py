# SPDX-License-Identifier: MIT
"""Telling others that the server is ready: a file descriptor, a file, systemd."""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from shmclient.console import Failure


class Readiness:
    """Says "ready" once in all the ways asked for, and "stopping" to those who listen."""

    def __init__(self, fd: int | None, file: str | None) -> None:
        self._fd = fd
        self._file = Path(file) if file is not None else None
        if fd is not None:
            _check_writable(fd)

    def ready(self) -> None:
        # The file first: who reads the descriptor may look for it next.
        if self._file is not None:
            self._write_file(self._file)
        if self._fd is not None:
            # Whoever asked may have gone; the server is no worse for it.
            with suppress(BrokenPipeError):
                os.write(self._fd, b"READY=1\n")
            os.close(self._fd)
        _tell_systemd(b"READY=1")

    def stopping(self) -> None:
        _tell_systemd(b"STOPPING=1")
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    @staticmethod
    def _write_file(file: Path) -> None:
        """Whole or not at all: a reader never sees half a number."""
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        try:
            draft.write_text(f"{os.getpid()}\n")
            draft.rename(file)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise Failure(f'cannot write --ready-file "{file}": {error.strerror}') from error


def _check_writable(fd: int) -> None:
    try:
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError as error:
        raise Failure(f"cannot use --ready-fd {fd}: {error.strerror}") from error
    if mode == os.O_RDONLY:
        raise Failure(f"cannot use --ready-fd {fd}: it is not open for writing")


def _tell_systemd(message: bytes) -> None:
    """sd_notify(3): one datagram to the socket that the service manager has named."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    address = address.replace("@", "\0", 1) if address[0] == "@" else address
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    # A manager that is gone needs no news.
    with channel, suppress(OSError):
        channel.sendto(message, address)
