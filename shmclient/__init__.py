# SPDX-License-Identifier: MIT
"""Volumes over shared memory: the client.

    with shmclient.connect() as server:
        server.create("demo", 1 << 30)
        with server.open("demo", writable=True) as volume:
            volume.pwrite(b"hello", 0)
            volume.flush()

Sizes, offsets and lengths are in bytes.  A refusal is an OSError with the errno and the server's
reason; a missing volume is a FileNotFoundError, a missing permission a PermissionError, and so on.
"""

from os import PathLike, fspath

from shmclient._native import (
    Connection,
    Extent,
    Hello,
    Limits,
    SnapshotInfo,
    Status,
    Volume,
    VolumeInfo,
    __version__,
    default_socket,
)

__all__ = [
    "Connection",
    "Extent",
    "Hello",
    "Limits",
    "SnapshotInfo",
    "Status",
    "Volume",
    "VolumeInfo",
    "__version__",
    "connect",
    "default_socket",
]


def connect(
    socket: str | PathLike[str] | None = None, *, implementation: str = "native"
) -> Connection:
    """Connect to the server at a socket's path, or at the default one (see default_socket).

    implementation: "native", the C library, or "reference", the same in Python alone; it is a lot
    slower and needs the extra openvstorage-shm[reference].  The one that is named is the one that
    is used, or an ImportError says what is missing.
    """
    if implementation == "reference":
        from shmclient import reference

        return reference.Connection(socket)  # type: ignore[return-value]
    if implementation != "native":
        raise ValueError(f'implementation "{implementation}" is neither "native" nor "reference"')
    return Connection(None if socket is None else fspath(socket))
