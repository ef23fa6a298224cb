# SPDX-License-Identifier: MIT
"""Stands between a client and a server and keeps what they say: packets, descriptors, memory.

Relays each packet as it is, with its descriptors.  Of an open reply it keeps the region, mapped:
what both sides wrote into rings and arena can be read as long as the recorder is open.
"""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import selectors
import socket
import threading
from types import TracebackType
from typing import Any, NamedTuple, Self

import wire

FDS_MAX = 1 + 2 * wire.QUEUES_MAX
FD_BYTES = array.array("i").itemsize


class Packet(NamedTuple):
    connection: int  # counted from 0
    from_client: bool
    data: bytes
    fd_count: int

    @property
    def head(self) -> Any:
        return wire.unpack("msg", self.data)

    @property
    def payload(self) -> bytes:
        return self.data[wire.sizeof("msg") :]


class Region(NamedTuple):
    """The shared memory of a session, and what its descriptors were."""

    connection: int
    map: mmap.mmap
    seals: int
    doorbell_flags: list[int]

    def struct(self, name: str, offset: int) -> Any:
        return wire.unpack(name, self.map[offset : offset + wire.sizeof(name)])

    @property
    def header(self) -> Any:
        return self.struct("region_header", 0)

    def words(self) -> Any:
        return self.struct("ring_words", self.header.queues_offset)

    def entries(self, kind: str, count: int) -> list[Any]:
        """The first entries of a ring of queue 0, "sqe" or "cqe"; it must not have wrapped."""
        header = self.header
        assert count <= header.entries
        start = header.queues_offset + getattr(header, f"{kind}s_offset")
        step = wire.sizeof(kind)
        return [self.struct(kind, start + number * step) for number in range(count)]

    def arena(self, offset: int, length: int) -> bytes:
        start = self.header.arena_offset + offset
        return self.map[start : start + length]


class Recorder:
    """Listens on `path` for clients of the server at `upstream`; a thread of its own."""

    def __init__(self, path: str, upstream: str) -> None:
        self.packets: list[Packet] = []
        self.regions: list[Region] = []
        self._upstream = upstream
        self._count = 0
        self._peers: dict[socket.socket, tuple[int, bool, socket.socket]] = {}
        self._selector = selectors.DefaultSelector()
        self._stop, stop = socket.socketpair()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen()
        for source in (self._listener, stop):
            self._selector.register(source, selectors.EVENT_READ)
        self._stop_end = stop
        self._thread = threading.Thread(target=self._run, name="recorder")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.close()
        self._thread.join()
        for source in [*self._peers, self._listener, self._stop_end]:
            source.close()
        self._selector.close()
        for region in self.regions:
            region.map.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                source = key.fileobj
                if source is self._stop_end:
                    return
                if source is self._listener:
                    self._accept()
                elif source in self._peers:  # it may have ended with its peer in this round
                    self._relay(source)  # type: ignore[arg-type]

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.connect(self._upstream)
        self._peers[client] = (self._count, True, server)
        self._peers[server] = (self._count, False, client)
        self._count += 1
        for source in (client, server):
            self._selector.register(source, selectors.EVENT_READ)

    def _relay(self, source: socket.socket) -> None:
        connection, from_client, other = self._peers[source]
        try:
            data, ancillary, flags, _ = source.recvmsg(
                wire.MSG_BYTES_MAX, socket.CMSG_SPACE(FD_BYTES * FDS_MAX)
            )
        except ConnectionResetError:
            data, ancillary, flags = b"", [], 0
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        fds = array.array("i")
        for _, _, rights in ancillary:
            fds.frombytes(rights)
        if not data:
            self._end(source, other)
            return
        self.packets.append(Packet(connection, from_client, data, len(fds)))
        if fds:
            self._keep(connection, fds)
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
            other.sendmsg([data], rights)
        except BrokenPipeError:
            self._end(source, other)
        finally:
            for fd in fds:
                os.close(fd)

    def _keep(self, connection: int, fds: array.array[int]) -> None:
        region, *doorbells = fds
        self.regions.append(
            Region(
                connection,
                mmap.mmap(region, os.fstat(region).st_size),
                fcntl.fcntl(region, fcntl.F_GET_SEALS),
                [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in doorbells],
            )
        )

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            self._selector.unregister(end)
            del self._peers[end]
            end.close()
