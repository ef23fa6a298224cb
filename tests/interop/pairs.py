# SPDX-License-Identifier: MIT
"""Which client meets which server: all of them, all of these.

A behaviour names what it needs of a client (`needs`); clients that lack it are not asked for it,
and LACKS says which and why.  What a *server* lacks is no reason not to run: then the refusal is
the behaviour.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Set
from functools import partial
from typing import NamedTuple

from interop import client_c, client_historical, client_python
from interop.client import Connection
from interop.servers import SERVERS, Server

FEATURES = {
    "describe": "hello, stat, and list with sizes",
    "vectored": "several buffers in one request",
    "fua": "durable writes",
    "ranges": "discard, write-zeroes, block-status",
    "events": "resized, draining, ended",
    "set_mode": "the writer's role without closing",
    "exact_sizes": "sizes and offsets go to the server as they are",
    "depth": "the depth of the queue can be chosen",
    "shared": "memory of the arena for the caller",
    "sessions": "status, and what each session has done",
    "empty": "a request of no bytes is fine and does nothing",
}
TRAITS = {
    "huge": "volumes of GiB cost nothing but what is written",
    "complete": "can everything, on any byte",
}


class Client(NamedTuple):
    connect: Callable[[str], Connection]
    lacks: frozenset[str] = frozenset()
    missing_errno: int = errno.ENOENT  # of opening what is not there
    long_name_errno: int = errno.ENAMETOOLONG
    oversize_errno: int = errno.EINVAL  # of a size beyond 2^63
    gone_errno: int = errno.ENOTCONN  # of a server that has stopped


CLIENTS: dict[str, Client] = {
    "c": Client(client_c.Connection, frozenset({"empty"})),
    "native": Client(client_python.Connection),
    "aio": Client(client_python.AioConnection),
    "reference": Client(partial(client_python.Connection, implementation="reference")),
    "historical": Client(
        client_historical.Connection,
        frozenset(FEATURES),
        missing_errno=errno.EACCES,
        long_name_errno=errno.EINVAL,
        oversize_errno=errno.EFBIG,
        gone_errno=errno.ECONNREFUSED,
    ),
}

assert all(client.lacks <= set(FEATURES) for client in CLIENTS.values())


class Pair(NamedTuple):
    client_name: str
    server_name: str

    @property
    def client(self) -> Client:
        return CLIENTS[self.client_name]

    @property
    def server(self) -> Server:
        return SERVERS[self.server_name]

    def __str__(self) -> str:
        return f"{self.client_name}-on-{self.server_name}"


ALL_PAIRS = [Pair(client, server) for client in CLIENTS for server in SERVERS]


def pairs(needs: Set[str] = frozenset(), traits: Set[str] = frozenset()) -> list[Pair]:
    """Those whose client lacks none of `needs`, on servers that have all of `traits`."""
    assert needs <= set(FEATURES)
    assert traits <= set(TRAITS)
    return [
        pair for pair in ALL_PAIRS if not pair.client.lacks & needs and traits <= pair.server.traits
    ]
