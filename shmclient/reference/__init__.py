# SPDX-License-Identifier: MIT
"""The reference implementation of the client: docs/PROTOCOL.md in Python, and nothing else.

    connection = shmclient.connect(implementation="reference")

It shares no code with the C library, only the wire header, and takes no short cuts.  Read it from
the bottom:

    wire      the bytes                     tables    the rules, as data
    atomic    memory order                  names     names and sizes (section 3)
    control   packets (section 4)           region    the shared memory (section 5)
    ring      indexes (section 6)           doorbell  sleeping and waking (section 7)
    arguments numbers of the caller
    arena     who has what of the arena     memory    the user's buffers
    queue     entries and completions       task      requests in pieces (section 8)
    session   the control socket            volume    an open volume
    client    the connection

It needs the Python package cffi: pip install 'openvstorage-shm[reference]'.
"""

try:
    import cffi  # noqa: F401
except ImportError as error:
    raise ImportError(
        "the reference implementation needs the Python package cffi: "
        "pip install 'openvstorage-shm[reference]'",
        name="cffi",
    ) from error

from shmclient.reference.client import Connection
from shmclient.reference.memory import Buffer
from shmclient.reference.records import (
    Event,
    Extent,
    Hello,
    Limits,
    SessionInfo,
    SnapshotInfo,
    Status,
    VolumeInfo,
)
from shmclient.reference.requests import Discard, Flush, Read, Write, WriteZeroes
from shmclient.reference.volume import Volume

__all__ = [
    "Buffer",
    "Connection",
    "Discard",
    "Event",
    "Extent",
    "Flush",
    "Hello",
    "Limits",
    "Read",
    "SessionInfo",
    "SnapshotInfo",
    "Status",
    "Volume",
    "VolumeInfo",
    "Write",
    "WriteZeroes",
]
