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
from typing import TYPE_CHECKING, Literal, overload

from shmclient._native import (
    Buffer,
    Connection,
    Discard,
    Event,
    Extent,
    Flush,
    Hello,
    LatencyHistogram,
    Limits,
    Load,
    Read,
    SessionInfo,
    SnapshotInfo,
    Status,
    Volume,
    VolumeInfo,
    Write,
    WriteZeroes,
    __version__,
    default_socket,
)

if TYPE_CHECKING:
    import shmclient.reference

__all__ = [
    "Buffer",
    "Connection",
    "Discard",
    "Event",
    "Extent",
    "Flush",
    "Hello",
    "LatencyHistogram",
    "Limits",
    "Load",
    "Read",
    "SessionInfo",
    "SnapshotInfo",
    "Status",
    "Volume",
    "VolumeInfo",
    "Write",
    "WriteZeroes",
    "__version__",
    "connect",
    "default_socket",
]

Path = str | PathLike[str]


@overload
def connect(
    socket: Path | None = None, *, implementation: Literal["native"] = "native"
) -> Connection: ...
@overload
def connect(
    socket: Path | None = None, *, implementation: Literal["reference"]
) -> "shmclient.reference.Connection": ...
def connect(
    socket: Path | None = None, *, implementation: str = "native"
) -> "Connection | shmclient.reference.Connection":
    """Connect to the server at a socket's path, or at the default one (see default_socket).

    implementation: "native" is this package's own; "reference" the one in pure Python, which is
    slow and shows how the protocol works (it needs the extra "reference").  The one that is named
    is the one that is used: ValueError when there is none of that name, ImportError when it lacks
    something.

    FileNotFoundError: no such socket; ConnectionRefusedError: nobody listens; PermissionError: not
    for this user; TimeoutError: no answer in 10 s.
    """
    path = None if socket is None else fspath(socket)
    if implementation == "native":
        return Connection(path)
    if implementation == "reference":
        from shmclient import reference

        return reference.Connection(path)
    raise ValueError(f'implementation "{implementation}" is neither "native" nor "reference"')
