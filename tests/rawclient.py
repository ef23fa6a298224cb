# SPDX-License-Identifier: MIT
"""A client in Python on bare sockets and shared memory, for tests: it can do everything wrong.

Made from the parts of shmclient.reference that check nothing of what we send.  Without arguments
its calls are those of a well-behaved client.  It rings whether the server is armed or not.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import wire

from shmclient.reference import control, region, tables
from shmclient.reference.queue import Completion, Queue

TIMEOUT_S = 20


class Message(NamedTuple):
    type: int
    flags: int
    id: int
    status: int
    payload: bytes
    fds: list[int]

    @property
    def reason(self) -> str:
        return wire.text(wire.unpack("msg_reason", self.payload).reason)


class Refused(OSError):
    """The server answered with an error: errno and its reason."""


class Ended(Exception):
    """The server closed the connection; `event` is what it said before, if anything."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RawClient:
    """One connection.  Messages the server sends by itself are kept in `events`."""

    def __init__(self, path: str | os.PathLike[str], *, hello: bool = True) -> None:
        self.events: list[Any] = []
        self.volumes: list[RawVolume] = []
        self.ident = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self.socket.settimeout(TIMEOUT_S)
        try:
            self.socket.connect(os.fspath(path))
            if hello:
                self.limits = self.hello()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for volume in self.volumes:
            volume.close()
        self.volumes.clear()
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- messages ----

    def send(self, packet: bytes, fds: Sequence[int] = ()) -> None:
        control.send(self.socket, packet, fds)

    def receive(self) -> Message:
        """The next message of any kind; Ended when there is none any more."""
        try:
            packet = control.receive(self.socket, control.FDS_MAX)
        except control.Closed:
            last = self.events[-1] if self.events else None
            ended = last is not None and last.event == wire.EVENT_ENDED
            raise Ended(wire.text(last.reason) if ended else "") from None
        assert packet.clean
        return Message(
            packet.type, packet.flags, packet.id, packet.status, packet.payload, packet.fds
        )

    def reply(self) -> Message:
        """The next reply; events before it are put aside."""
        while True:
            message = self.receive()
            if message.type != wire.MSG_EVENT:
                assert message.flags == wire.MSG_REPLY
                return message
            assert (message.flags, message.id, message.status) == (0, 0, 0)
            self.events.append(wire.unpack("msg_event", message.payload))

    def call(self, kind: int, payload: bytes = b"") -> Message:
        self.ident += 1
        self.send(wire.message(kind, payload, ident=self.ident))
        reply = self.reply()
        assert (reply.type, reply.id) == (kind, self.ident)
        if reply.status < 0:
            raise Refused(-reply.status, reply.reason)
        assert reply.status == 0
        return reply

    def wait_ended(self) -> str:
        """Reads until the server closes; its reason."""
        try:
            while True:
                message = self.receive()
                if message.type == wire.MSG_EVENT:
                    self.events.append(wire.unpack("msg_event", message.payload))
        except Ended as ended:
            return ended.reason

    # ---- requests ----

    def hello(
        self,
        version_min: int = wire.VERSION,
        version_max: int = wire.VERSION,
        features: int = tables.FEATURES,
        client: str = "rawclient",
    ) -> Any:
        payload = wire.pack(
            "msg_hello",
            version_min=version_min,
            version_max=version_max,
            features=features,
            client=client,
        )
        return wire.unpack("msg_hello_reply", self.call(wire.MSG_HELLO, payload).payload)

    def status(self) -> Any:
        return wire.unpack("status", self.call(wire.MSG_STATUS).payload)

    def create(self, name: str, size_bytes: int) -> None:
        self.call(wire.MSG_CREATE, wire.pack("msg_volume", name=name, size_bytes=size_bytes))

    def remove(self, name: str) -> None:
        self.call(wire.MSG_REMOVE, wire.pack("msg_volume", name=name))

    def resize(self, name: str, size_bytes: int) -> None:
        self.call(wire.MSG_RESIZE, wire.pack("msg_volume", name=name, size_bytes=size_bytes))

    def stat(self, name: str) -> Any:
        reply = self.call(wire.MSG_STAT, wire.pack("msg_volume", name=name))
        return wire.unpack("volume_info", reply.payload)

    def set_mode(self, mode: int) -> None:
        self.call(wire.MSG_SET_MODE, wire.pack("msg_set_mode", mode=mode))

    def open(
        self,
        name: str,
        mode: int = wire.MODE_WRITE,
        queues: int = 1,
        depth: int = 8,
        arena_bytes: int = 1 << 20,
    ) -> RawVolume:
        payload = wire.pack(
            "msg_open", name=name, mode=mode, queues=queues, depth=depth, arena_bytes=arena_bytes
        )
        reply = self.call(wire.MSG_OPEN, payload)
        volume = RawVolume(self, wire.unpack("msg_open_reply", reply.payload), reply.fds)
        self.volumes.append(volume)
        return volume


class RawVolume:
    """An open volume: the mapped region and its queues."""

    def __init__(self, client: RawClient, reply: Any, fds: list[int]) -> None:
        self.client = client
        self.fds = fds
        assert len(fds) == 1 + 2 * reply.queues
        self.region = region.attach(fds[0], reply.region_bytes)
        self.map = self.region.map
        self.header = self.region.layout
        assert (self.header.queue_count, self.header.depth) == (reply.queues, reply.depth)
        self.size_bytes: int = reply.size_bytes
        self.arena_offset: int = self.header.arena_offset
        self.queues = [
            RawQueue(self, self.region.queue(i), *fds[1 + 2 * i : 3 + 2 * i])
            for i in range(reply.queues)
        ]

    def close(self) -> None:
        """Unmaps and closes; the session goes on until the connection is closed."""
        if self.fds:
            for queue in self.queues:
                queue.close()
            self.queues.clear()
            self.region.close()
            self.fds = []

    @property
    def queue(self) -> RawQueue:
        return self.queues[0]

    @property
    def volume_bytes(self) -> int:
        return self.region.volume_bytes

    def put(self, offset: int, data: bytes) -> None:
        self.map[self.arena_offset + offset : self.arena_offset + offset + len(data)] = data

    def get(self, offset: int, length: int) -> bytes:
        return self.map[self.arena_offset + offset : self.arena_offset + offset + length]

    # ---- the calls of a well-behaved client ----

    def read(self, offset_bytes: int, length_bytes: int, buffer_offset: int = 0) -> bytes:
        result = self.queue.run(
            op=wire.OP_READ,
            offset_bytes=offset_bytes,
            length_bytes=length_bytes,
            buffer_offset=buffer_offset,
        )
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return self.get(buffer_offset, result)

    def write(self, offset_bytes: int, data: bytes, buffer_offset: int = 0, flags: int = 0) -> None:
        self.put(buffer_offset, data)
        result = self.queue.run(
            op=wire.OP_WRITE,
            flags=flags,
            offset_bytes=offset_bytes,
            length_bytes=len(data),
            buffer_offset=buffer_offset,
        )
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        assert result == len(data)

    def flush(self) -> None:
        assert self.queue.run(op=wire.OP_FLUSH) == 0


class RawQueue(Queue):
    """A queue pair; what it knows of the indexes can be spoilt as well as the shared words."""

    def __init__(
        self, volume: RawVolume, memory: region.QueueMemory, server_fd: int, client_fd: int
    ) -> None:
        super().__init__(memory, server_fd, client_fd)
        self.volume = volume
        self.user_data = 0

    @property
    def tail(self) -> int:
        return self.sq.own

    @tail.setter
    def tail(self, value: int) -> None:
        self.sq.own = value

    def publish(self) -> None:
        self.sq.publish()
        self.ring()

    def ring(self) -> None:
        """Rings whether the server is armed or not: a needless ring does no harm."""
        self.words.server_armed = 0
        os.eventfd_write(self.server_fd, 1)

    def submit(self, **fields: Any) -> int:
        """Publishes one request; its user_data."""
        if "user_data" not in fields:
            self.user_data += 1
            fields["user_data"] = self.user_data
        self.push(wire.pack("sqe", **fields))
        self.publish()
        return int(fields["user_data"])

    def wait(self, count: int = 1) -> list[Completion]:
        """At least `count` completions; Ended when the server closes, TimeoutError."""
        connection = self.volume.client
        deadline = time.monotonic() + TIMEOUT_S
        found = self.reap()
        while len(found) < count:
            woken = self.sleep(connection.socket.fileno(), deadline - time.monotonic())
            if not woken:
                raise TimeoutError("no completion in time")
            more = self.reap()
            found += more
            if not more and select.select([connection.socket], [], [], 0)[0]:
                message = connection.receive()
                assert message.type == wire.MSG_EVENT
                connection.events.append(wire.unpack("msg_event", message.payload))
        assert all(done.resv == 0 for done in found)
        return found

    def run(self, **fields: Any) -> int:
        """One request with nothing else in flight: its result."""
        user_data = self.submit(**fields)
        (done,) = self.wait()
        assert done.user_data == user_data
        return done.result
