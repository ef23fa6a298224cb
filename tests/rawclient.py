# SPDX-License-Identifier: MIT
"""A client in Python on bare sockets and shared memory, for tests: it can do everything wrong.

Written from docs/PROTOCOL.md; shares no code with the C client.  Without arguments its calls are
those of a well-behaved client.  Python cannot fence, so it always rings, and looks again after a
system call.
"""

from __future__ import annotations

import array
import mmap
import os
import select
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import wire

TIMEOUT_S = 20
PAGE = wire.PAGE_BYTES
FDS_MAX = 1 + 2 * wire.QUEUES_MAX


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


class Completion(NamedTuple):
    user_data: int
    result: int


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
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([packet], rights)

    def receive(self) -> Message:
        """The next message of any kind; Ended when there is none any more."""
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(
                wire.MSG_BYTES_MAX, socket.CMSG_SPACE(4 * FDS_MAX), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            data, ancillary, flags = b"", [], 0
        fds = array.array("i")
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(rights)
        if not data:
            last = self.events[-1] if self.events else None
            ended = last is not None and last.event == wire.EVENT_ENDED
            raise Ended(wire.text(last.reason) if ended else "")
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        head = wire.unpack("msg", data)
        assert head.magic == wire.MAGIC
        assert head.payload_bytes == len(data) - wire.sizeof("msg")
        assert list(head.resv) == [0, 0, 0]
        payload = data[wire.sizeof("msg") :]
        return Message(head.type, head.flags, head.id, head.status, payload, list(fds))

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
        features: int = wire.FEATURE_SEGMENTS | wire.FEATURE_EVENTS | wire.FEATURE_SESSIONS,
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


def planned_region(queues: int, depth: int, arena_bytes: int) -> dict[str, int]:
    """PROTOCOL.md section 5: what the header must say."""
    entries = 1 << (depth - 1).bit_length()
    cqes_offset = wire.sizeof("ring_words") + entries * wire.sizeof("sqe")
    queue_bytes = cqes_offset + entries * wire.sizeof("cqe")
    stride = (queue_bytes + PAGE - 1) // PAGE * PAGE
    return {
        "magic": wire.REGION_MAGIC,
        "version": wire.VERSION,
        "header_bytes": wire.sizeof("region_header"),
        "queue_count": queues,
        "depth": depth,
        "entries": entries,
        "queues_offset": PAGE,
        "queue_stride_bytes": stride,
        "sqes_offset": wire.sizeof("ring_words"),
        "cqes_offset": cqes_offset,
        "arena_offset": PAGE + queues * stride,
        "arena_bytes": arena_bytes,
        "region_bytes": PAGE + queues * stride + arena_bytes,
    }


class RawVolume:
    """An open volume: the mapped region and its queues."""

    def __init__(self, client: RawClient, reply: Any, fds: list[int]) -> None:
        self.client = client
        self.fds = fds
        assert len(fds) == 1 + 2 * reply.queues
        self.map = mmap.mmap(fds[0], reply.region_bytes)
        self.bytes = wire.ffi.from_buffer(self.map)
        self.header = wire.unpack("region_header", self.map[: wire.sizeof("region_header")])
        self.size_bytes: int = reply.size_bytes
        header = self.header
        for name, value in planned_region(reply.queues, reply.depth, header.arena_bytes).items():
            assert getattr(header, name) == value, name
        self.arena_offset: int = header.arena_offset
        self.queues = [RawQueue(self, i, *fds[1 + 2 * i : 3 + 2 * i]) for i in range(reply.queues)]

    def close(self) -> None:
        """Unmaps and closes; the session goes on until the connection is closed."""
        if self.fds:
            self.queues.clear()
            wire.ffi.release(self.bytes)
            self.map.close()
            for fd in self.fds:
                os.close(fd)
            self.fds = []

    @property
    def queue(self) -> RawQueue:
        return self.queues[0]

    @property
    def volume_bytes(self) -> int:
        pointer = wire.ffi.cast("struct ovsshm_region_header *", self.bytes)
        return int(pointer.volume_bytes)

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


class RawQueue:
    """A queue pair; indexes are private, as PROTOCOL.md section 6 asks."""

    def __init__(self, volume: RawVolume, index: int, server_fd: int, client_fd: int) -> None:
        header = volume.header
        start = header.queues_offset + index * header.queue_stride_bytes
        base = volume.bytes + start
        self.volume = volume
        self.server_fd = server_fd
        self.client_fd = client_fd
        self.entries: int = header.entries
        self.words = wire.ffi.cast("struct ovsshm_ring_words *", base)
        self.sqes = wire.ffi.cast("struct ovsshm_sqe *", base + header.sqes_offset)
        self.cqes = wire.ffi.cast("struct ovsshm_cqe *", base + header.cqes_offset)
        self.tail = 0
        self.head = 0
        self.user_data = 0

    def push(self, entry: bytes) -> None:
        """Writes an entry into the next slot; not published yet."""
        slot = self.sqes + (self.tail & (self.entries - 1))
        wire.ffi.memmove(slot, entry, wire.sizeof("sqe"))
        self.tail = (self.tail + 1) & 0xFFFFFFFF

    def publish(self) -> None:
        self.words.sq_tail = self.tail
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

    def reap(self) -> list[Completion]:
        """What is there now."""
        tail = self.words.cq_tail
        assert (tail - self.head) & 0xFFFFFFFF <= self.entries
        found = []
        while self.head != tail:
            entry = self.cqes[self.head & (self.entries - 1)]
            assert entry.resv == 0
            found.append(Completion(entry.user_data, entry.result))
            self.head = (self.head + 1) & 0xFFFFFFFF
        self.words.cq_head = self.head
        return found

    def wait(self, count: int = 1) -> list[Completion]:
        """At least `count` completions; Ended when the server closes, TimeoutError."""
        found = self.reap()
        deadline = time.monotonic() + TIMEOUT_S
        connection = self.volume.client
        while len(found) < count:
            self.words.client_armed = 1
            select.select([], [], [], 0)  # a system call in place of the fence F1
            if not (more := self.reap()):
                self.sleep(deadline - time.monotonic())
                more = self.reap()
            self.words.client_armed = 0
            found += more
            if not more and select.select([connection.socket], [], [], 0)[0]:
                message = connection.receive()
                assert message.type == wire.MSG_EVENT
                connection.events.append(wire.unpack("msg_event", message.payload))
        return found

    def sleep(self, timeout_s: float) -> None:
        readable, _, _ = select.select(
            [self.client_fd, self.volume.client.socket], [], [], max(timeout_s, 0)
        )
        if not readable:
            raise TimeoutError("no completion in time")
        if self.client_fd in readable:
            os.read(self.client_fd, 512)

    def run(self, **fields: Any) -> int:
        """One request with nothing else in flight: its result."""
        user_data = self.submit(**fields)
        (done,) = self.wait()
        assert done.user_data == user_data
        return done.result
