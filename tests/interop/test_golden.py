# SPDX-License-Identifier: MIT
"""The golden messages, which no implementation made, are read by every client and every server.

A server that only knows the golden replies answers the clients; the golden requests are sent to the
servers as they are.
"""

from __future__ import annotations

import errno
import os
import socket as sockets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wire
from golden import samples

from interop import client_c
from interop.client import Connection, Hello, Info, Snapshot
from interop.conftest import MIB, refused
from interop.pairs import CLIENTS
from interop.servers import SERVERS
from shmclient.reference import tables

GOLDEN = samples.samples()
HEAD = wire.sizeof("msg")
FULL_CLIENTS = [
    name for name, client in CLIENTS.items() if not client.lacks & {"describe", "sessions"}
]
TIMEOUT_S = 30


def payload(name: str) -> bytes:
    return GOLDEN[name][HEAD:]


def empty_list(kind: int) -> bytes:
    return wire.message(kind, wire.pack("msg_list_reply"), flags=wire.MSG_REPLY)


@contextmanager
def server_of_replies(path: Path, replies: dict[int, list[bytes]]) -> Iterator[None]:
    """Answers each request with the next reply to its type, and its id; then with empty lists."""

    def serve(listener: sockets.socket) -> None:
        with listener, listener.accept()[0] as peer:
            while request := peer.recv(wire.MSG_BYTES_MAX):
                asked = wire.unpack("msg", request)
                left = replies[asked.type]
                reply = left.pop(0) if left else empty_list(asked.type)
                head = wire.unpack("msg", reply)
                head.id = asked.id
                peer.send(bytes(wire.ffi.buffer(head)) + reply[HEAD:])

    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    listener.settimeout(TIMEOUT_S)
    listener.bind(str(path))
    listener.listen()
    thread = threading.Thread(target=serve, args=(listener,))
    thread.start()
    try:
        yield
    finally:
        thread.join(TIMEOUT_S)
    assert not thread.is_alive()


@pytest.fixture(params=FULL_CLIENTS)
def ask(request: pytest.FixtureRequest, short_dir: Path) -> Callable[..., Any]:
    """ask(call, type=[replies], ...): what call(connection) returns when answered so."""

    def ask(call: Callable[[Connection], Any], **replies: list[bytes]) -> Any:
        known = {wire.CONSTANTS[f"OVSSHM_MSG_{name}"]: list(them) for name, them in replies.items()}
        known.setdefault(wire.MSG_HELLO, [GOLDEN["hello-reply"]])
        path = short_dir / "golden.sock"
        with server_of_replies(path, known):
            connection = CLIENTS[request.param].connect(str(path))
            with connection:
                found = call(connection)
        assert not any(known.values()), "not all replies were asked for"
        return found

    return ask


def members(struct: str, data: bytes) -> dict[str, Any]:
    """By name, without the reserved ones: numbers, text, tuples of numbers."""
    return client_c.members(wire.unpack(struct, data))


def test_clients_read_hello(ask):
    reply = members("msg_hello_reply", payload("hello-reply"))
    assert ask(lambda connection: connection.hello()) == Hello(
        "memory",
        client_c.capability_names(reply["capabilities"]),
        reply["depth_max"],
        reply["request_bytes_max"],
        reply["range_bytes_max"],
    )


def test_clients_read_status(ask):
    found = ask(lambda connection: connection.status(), STATUS=[GOLDEN["status-reply"]])
    assert found == members("status", payload("status-reply"))
    assert sorted(found.values()) == list(range(1, 13)), "each has a value of its own"


def test_clients_read_lists_of_volumes_to_their_end(ask):
    found = ask(lambda connection: connection.list(), LIST=[GOLDEN["list-reply"]])
    assert found == [Info("dir/vol", 10 << 30, 512, 1, 2, 3)]


def test_clients_read_lists_of_snapshots(ask):
    replies = [GOLDEN["snapshot-list-reply"]]
    found = ask(lambda connection: connection.snapshots("dir/vol"), SNAPSHOT_LIST=replies)
    assert found == [Snapshot("monday", 10 << 30)]


def test_clients_read_whether_a_snapshot_is_synced(ask):
    def call(connection: Connection) -> bool:
        return connection.snapshot_is_synced("dir/vol", "monday")

    assert ask(call, SNAPSHOT_IS_SYNCED=[GOLDEN["is-synced-reply"]]) is True


def test_clients_read_sessions_to_their_end(ask):
    """The golden hello has no sessions: the same with all features."""
    hello = members("msg_hello_reply", payload("hello-reply")) | {"features": tables.FEATURES}
    with_sessions = wire.pack("msg_hello_reply", **hello)
    (found,) = ask(
        lambda connection: connection.sessions(),
        HELLO=[wire.message(wire.MSG_HELLO, with_sessions, flags=wire.MSG_REPLY)],
        SESSIONS=[GOLDEN["sessions-reply"]],
    )
    expected = members("session_info", payload("sessions-reply")[8:])
    assert found == expected | {"mode": "write"}


def test_clients_do_not_ask_for_what_the_server_does_not_know(ask):
    """The golden hello has no sessions."""

    def call(connection: Connection) -> None:
        with refused(errno.EOPNOTSUPP):
            connection.sessions()

    ask(call)


def test_clients_read_why_they_are_refused(ask):
    def call(connection: Connection) -> None:
        with pytest.raises(FileExistsError, match=r"^\[Errno 17\] volume dir/vol exists$"):
            connection.create("dir/vol", MIB)

    ask(call, CREATE=[GOLDEN["refused"]])


# ---- requests ----


@pytest.fixture(params=[name for name, server in SERVERS.items() if "complete" in server.traits])
def peer(request: pytest.FixtureRequest, fresh: Callable[..., Any]) -> Iterator[sockets.socket]:
    """A bare socket at a server of each kind, which has nothing yet."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as peer:
        peer.settimeout(TIMEOUT_S)
        peer.connect(fresh(request.param).socket)
        yield peer


REQUESTS = ["hello", "create", "snapshot-create", "open", "set-mode", "status"]


def test_servers_read_the_golden_requests(peer):
    for name in REQUESTS:
        peer.send(GOLDEN[name])
        reply, fds, _, _ = sockets.recv_fds(peer, wire.MSG_BYTES_MAX, 1 + 2 * wire.QUEUES_MAX)
        for fd in fds:
            os.close(fd)
        sent, head = wire.unpack("msg", GOLDEN[name]), wire.unpack("msg", reply)
        assert (head.type, head.id, head.status) == (sent.type, sent.id, 0), name
        assert len(fds) == (5 if name == "open" else 0), "the region and two queues"
    status = members("status", reply[HEAD:])
    assert (status["connections"], status["sessions"], status["requests"]) == (1, 1, 0)
    peer.send(wire.message(wire.MSG_STAT, wire.pack("msg_volume", name="dir/vol")))
    info = members("volume_info", peer.recv(wire.MSG_BYTES_MAX)[HEAD:])
    assert info["name"] == "dir/vol"
    assert (info["size_bytes"], info["snapshots"]) == (10 << 30, 1)
    assert (info["writers"], info["readers"]) == (0, 1), "set mode made it a reader"
