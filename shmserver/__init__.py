# SPDX-License-Identifier: MIT
"""Volumes over shared memory: the server, to run as a daemon (`shmserver`) or inside a program.

    from shmserver import Server

    with Server("file", pool="/srv/vpool", socket="/run/demo/shm.sock") as server:
        ...

Errors are OSError with the reason.  The server logs to logging.getLogger("shmserver").
"""

from shmserver._core import Server, __version__, default_socket, stores

__all__ = ["Server", "__version__", "default_socket", "stores"]
