# SPDX-License-Identifier: MIT
"""The reference implementation of the server: docs/PROTOCOL.md in Python, and nothing else.

    from shmserver.reference import Server

    with Server("memory", socket="/run/demo/shm.sock") as server:
        ...

`shmserver --implementation reference` runs it as a daemon.  It shares the tables and the bytes with
shmclient.reference, stores in Python with shmserver.Server, and no code with the C server.  Read it
from the bottom:

    params    what it may be told          peer      who is a client
    listener  the socket (section 2)       ringer    waking clients (section 7)
    entry     checks of entries (8, 11)    request   a request in the hands of a store
    queue     rings (sections 6, 7)        books     what has been done (4.2, 4.7)
    opened    open volumes                 message   checks of messages (4, 11)
    handlers  what each message does       session   a connection and its state (10, 11, 12)
    core      the one thread that serves   server    the interface of shmserver.Server

It needs the Python packages cffi and posix_ipc: pip install 'openvstorage-shm[reference]'.
"""

try:
    import cffi  # noqa: F401
    import posix_ipc  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"the reference implementation needs the Python package {error.name}: "
        "pip install 'openvstorage-shm[reference]'",
        name=error.name,
    ) from error

from shmserver.reference.server import Server

__all__ = ["Server"]
