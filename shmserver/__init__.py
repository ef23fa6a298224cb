# SPDX-License-Identifier: MIT
"""Volumes over shared memory: the server, to run as a daemon (`shmserver`) or inside a program.

    from shmserver import Server

    with Server("file", pool="/srv/vpool", socket="/run/demo/shm.sock") as server:
        ...

A store of your own is a class in Python, see shmserver.store; Server(MyStore()) serves it.

Errors are OSError with the reason.  The server logs to logging.getLogger("shmserver").
"""

from pathlib import Path

from shmserver._core import Server, __version__, default_socket, stores
from shmserver.store import Extent, Op, Request, Snapshot, Store

__all__ = [
    "Extent",
    "Op",
    "Request",
    "Server",
    "Snapshot",
    "Store",
    "__version__",
    "default_socket",
    "get_include",
    "stores",
]


def get_include() -> str:
    """The directory of <openvstorage/store.hpp> and what else a store in C or C++ includes."""
    return str(Path(__file__).parent / "include")
