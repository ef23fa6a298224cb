# SPDX-License-Identifier: MIT
"""Control messages as packets (section 4): one packet is a header and its payload.

message() and parse() are bytes to bytes; send() and receive() are the only ones that touch a
socket.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from shmclient.reference import wire

FDS_MAX = 1 + 2 * wire.QUEUES_MAX
_HEAD_BYTES = wire.sizeof("msg")


class Malformed(Exception):
    """A packet that is not a message (V1), or with more descriptors than may come (V2)."""

    def __init__(self, how: str, number: str = "V1") -> None:
        super().__init__(f"{how} ({number})")


class Closed(Exception):
    """The peer has closed its end."""


class Packet(NamedTuple):
    type: int
    flags: int
    id: int
    status: int
    clean: bool  # reserved members of the header are zero
    payload: bytes
    fds: list[int]

    def close_fds(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


def message(
    kind: int, payload: bytes = b"", *, ident: int = 0, flags: int = 0, status: int = 0
) -> bytes:
    head = wire.pack(
        "msg",
        magic=wire.MAGIC,
        type=kind,
        flags=flags,
        id=ident,
        status=status,
        payload_bytes=len(payload),
    )
    return head + payload


def refusal(kind: int, ident: int, number: int, reason: str) -> bytes:
    """The reply of a request that failed with errno `number` (rule 2)."""
    payload = wire.pack("msg_reason", reason=cut(reason, wire.NAME_BYTES))
    return message(kind, payload, ident=ident, flags=wire.MSG_REPLY, status=-number)


def cut(text: str, field_bytes: int) -> bytes:
    """As much of a text as fits a field and its NUL, in whole characters."""
    data = text.encode("utf-8", "surrogateescape")[: field_bytes - 1]
    return data.decode("utf-8", "ignore").encode()


def parse(data: bytes, fds: list[int] | None = None) -> Packet:
    """Malformed when it is not a message (V1)."""
    if len(data) < _HEAD_BYTES:
        raise Malformed("shorter than a header")
    head = wire.unpack("msg", data)
    if head.magic != wire.MAGIC:
        raise Malformed("wrong magic")
    if head.payload_bytes != len(data) - _HEAD_BYTES:
        raise Malformed("payload_bytes is not the rest of the packet")
    return Packet(
        type=head.type,
        flags=head.flags,
        id=head.id,
        status=head.status,
        clean=wire.is_zero(head.resv),
        payload=data[_HEAD_BYTES:],
        fds=fds or [],
    )


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def _rights(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def receive(sock: socket.socket, fds_max: int = 0, flags: int = 0) -> Packet:
    """The next packet.  Closed, Malformed, or an OSError of the socket (BlockingIOError)."""
    room = socket.CMSG_SPACE(FDS_MAX * array.array("i").itemsize)
    try:
        data, ancillary, got, _ = sock.recvmsg(
            wire.MSG_BYTES_MAX, room, flags | socket.MSG_CMSG_CLOEXEC
        )
    except (ConnectionResetError, BrokenPipeError):
        raise Closed from None
    fds = _rights(ancillary)
    try:
        if not data and not fds:
            raise Closed
        if got & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Malformed("longer than a message may be")
        if len(fds) > fds_max:
            raise Malformed("descriptors that do not belong there", "V2")
        return parse(data, fds)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
