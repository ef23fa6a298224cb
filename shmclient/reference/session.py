# SPDX-License-Identifier: MIT
"""The client's end of a control socket (section 4): hello, calls, events, and whether it lives.

A connection and a volume have one each.  Calls of several threads take turns; the one that waits
for its reply receives the events meanwhile.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from shmclient.reference import control, tables, wire
from shmclient.reference.records import Event

HELLO_TIMEOUT_S = 10
EVENTS_MAX = 16  # kept for the user; the oldest are dropped
PACKETS_PER_LOOK = 64  # so that a talkative server cannot hold us
ERRNO_MAX = 4095

_ADVICE = {
    errno.ENOENT: ": is shmserver running?",
    errno.ECONNREFUSED: ": is shmserver running?",
    errno.EACCES: ": has this user write permission on the socket?",
    errno.EPROTOTYPE: ": that is another program's socket",
    errno.EAGAIN: ": the server does not accept connections",
}
_EVENT_KINDS = {value: name.lower() for name, value in tables.EVENTS.items()}

_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


class Reply(NamedTuple):
    payload: bytes
    fds: list[int]


class Session:
    """Connected and greeted when it is made.  OSError with the reason, by whomever."""

    def __init__(self, path: str, origin: str = "") -> None:
        self.path = path
        self.events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._turn = threading.Lock()
        self._ident = 0
        self._greeted = False
        self._over: str | None = None  # why the session is over
        self._over_errno = errno.ENOTCONN
        self.inherited = False  # by a child after fork
        self.socket = _connect(path, origin)
        _sessions.add(self)
        try:
            self.hello = self._say_hello()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._over = self._over or "the session is closed"
        if not self.inherited:
            self._shutdown()
        self.socket.close()

    def _shutdown(self) -> None:
        """At once, even when another process has a copy; wakes who sleeps on the socket."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    @property
    def alive(self) -> bool:
        return self._over is None

    def check_process(self) -> None:
        if self.inherited:
            raise RuntimeError("this belongs to the process that opened it, which has forked")

    # ---- the end ----

    def over(self) -> OSError:
        """What calls end with once the session is over (section 12.2, rules 3 and 4)."""
        return OSError(self._over_errno, self._over)

    def _end(self, reason: str, number: int = errno.ENOTCONN) -> None:
        if self._over is None:
            self._over = reason
            self._over_errno = number
            self._shutdown()

    def violated(self, how: str) -> OSError:
        """The server is broken (section 11, last paragraph): the session ends."""
        reason = f"the server at {self.path} broke the protocol: {how}"
        self._end(reason, errno.EPROTO)
        return OSError(errno.EPROTO, reason)

    # ---- events (section 4.6) ----

    def _take_event(self, packet: control.Packet) -> None:
        packet.close_fds()
        if len(packet.payload) != wire.sizeof("msg_event") or not self._greeted:
            raise self.violated("a bad event")
        event = wire.unpack("msg_event", packet.payload)
        if event.resv or not wire.has_nul(event.reason):
            raise self.violated("a bad event")
        kind = _EVENT_KINDS.get(event.event)
        if kind is None:
            return  # of a newer server; events only inform
        reason = wire.text(event.reason)
        self.events.append(Event(kind, event.value, reason))
        if kind == "ended":
            self._end(f"the server at {self.path} has ended the session: {reason}")

    def drain(self) -> None:
        """Take what is in the socket without waiting: events, the server's end."""
        if not self._turn.acquire(blocking=False):
            return  # a call waits for its reply, and sees all that comes before
        try:
            for _ in range(PACKETS_PER_LOOK):
                if not self.alive:
                    return
                packet = self._receive(0, socket.MSG_DONTWAIT)
                if packet.type != wire.MSG_EVENT:
                    raise self.violated("a reply that nobody waits for")
                self._take_event(packet)
        except BlockingIOError:
            pass
        finally:
            self._turn.release()

    # ---- calls (section 4, rules 1 and 2) ----

    def call(self, name: str, payload: bytes = b"", descriptors: int = 0) -> Reply:
        """One request of tables.MESSAGES and its reply, whose size has been checked."""
        with self._turn:
            if not self.alive:
                raise self.over()
            self._ident = (self._ident + 1) % 2**32
            request = control.message(tables.MESSAGES[name].type, payload, ident=self._ident)
            self._send(request)
            packet = self._receive(descriptors)
            while packet.type == wire.MSG_EVENT:
                self._take_event(packet)
                if not self.alive:
                    raise self.over()
                packet = self._receive(descriptors)
            return self._take_reply(tables.MESSAGES[name], packet, descriptors)

    def _send(self, request: bytes) -> None:
        try:
            control.send(self.socket, request)
        except (BrokenPipeError, ConnectionResetError):
            self._last_words()
            self._end(f"the server at {self.path} has gone away")
            raise self.over() from None
        except OSError as error:
            raise self._failed(error) from error

    def _last_words(self) -> None:
        """The events before the end may say why it came."""
        try:
            while self.alive:
                packet = control.receive(self.socket, 0, socket.MSG_DONTWAIT)
                if packet.type != wire.MSG_EVENT:
                    return
                self._take_event(packet)
        except (OSError, control.Closed, control.Malformed):
            pass

    def _receive(self, fds_max: int, flags: int = 0) -> control.Packet:
        try:
            return control.receive(self.socket, fds_max, flags)
        except control.Closed:
            self._end(f"the server at {self.path} has gone away")
            raise self.over() from None
        except control.Malformed:
            raise self.violated("a packet that is no message") from None
        except BlockingIOError:
            if flags & socket.MSG_DONTWAIT:
                raise
            self._end(f"the server at {self.path} did not answer in {HELLO_TIMEOUT_S} s")
            raise TimeoutError(errno.ETIMEDOUT, self._over) from None
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> OSError:
        self._end(f"the socket {self.path} failed: {error.strerror}")
        return OSError(error.errno, self._over)

    def _take_reply(
        self, message: tables.Message, packet: control.Packet, descriptors: int
    ) -> Reply:
        try:
            expected = (message.type, wire.MSG_REPLY, self._ident)
            answered = (packet.type, packet.flags, packet.id)
            if answered != expected or packet.status > 0 or not packet.clean:
                raise self.violated("a reply to something else")
            if packet.status < 0:
                raise self._refused(packet)
            if not _size_fits(message, packet) or len(packet.fds) != descriptors:
                raise self.violated("a reply of the wrong size")
        except BaseException:
            packet.close_fds()
            raise
        return Reply(packet.payload, packet.fds)

    def _refused(self, packet: control.Packet) -> OSError:
        if (
            packet.status < -ERRNO_MAX
            or packet.fds
            or len(packet.payload) != wire.sizeof("msg_reason")
        ):
            return self.violated("a bad refusal")
        reason = wire.unpack("msg_reason", packet.payload).reason
        if not wire.has_nul(reason):
            return self.violated("a bad refusal")
        return OSError(-packet.status, wire.text(reason))

    # ---- hello (section 4.1) ----

    def _say_hello(self) -> Any:
        program = Path(sys.argv[0]).name or "python"
        payload = wire.pack(
            "msg_hello",
            version_min=wire.VERSION,
            version_max=wire.VERSION,
            features=tables.FEATURES,
            client=control.cut(program, wire.IDENT_BYTES),
        )
        hello = wire.unpack("msg_hello_reply", self.call("HELLO", payload).payload)
        if hello.version != wire.VERSION:
            raise OSError(
                errno.EPROTONOSUPPORT,
                f"the server at {self.path} wants protocol version {hello.version}, "
                f"this client speaks {wire.VERSION}",
            )
        if not _hello_fits(hello):
            raise self.violated("impossible limits in hello")
        self._greeted = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
        return hello


def _size_fits(message: tables.Message, packet: control.Packet) -> bool:
    fixed = wire.sizeof(message.reply) if message.reply else 0
    if message.element is None:
        return len(packet.payload) == fixed
    return len(packet.payload) >= fixed


def _hello_fits(hello: Any) -> bool:
    """Limits that section 13 allows, and features that we have offered (section 4.1, rule 2)."""
    return (
        hello.features & ~tables.FEATURES == 0
        and 1 <= hello.queues_max <= wire.QUEUES_MAX
        and wire.DEPTH_MIN <= hello.depth_max <= wire.DEPTH_MAX
        and wire.SECTOR_BYTES <= hello.request_bytes_max < 2**31
        and wire.SECTOR_BYTES <= hello.range_bytes_max <= wire.RANGE_BYTES_MAX
        and 1 <= hello.segments_max <= wire.SEGMENTS_MAX
        and hello.arena_bytes_max >= wire.PAGE_BYTES
        and wire.has_nul(hello.server)
        and wire.has_nul(hello.store)
    )


def _timeval(seconds: int) -> bytes:
    return struct.pack("ll", seconds, 0)


def _connect(path: str, origin: str) -> socket.socket:
    """A blocking socket whose system calls take at most HELLO_TIMEOUT_S for now."""
    if not path:
        raise OSError(errno.EINVAL, "the socket path is empty")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(HELLO_TIMEOUT_S))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(HELLO_TIMEOUT_S))
        sock.connect(path)
    except OSError as error:
        sock.close()
        if error.errno is None:  # Python's own word for a path that does not fit
            reason = f"cannot connect to {path}: {error}{origin}"
            raise OSError(errno.ENAMETOOLONG, reason) from None
        reason = f"cannot connect to {path}: {error.strerror}{_ADVICE.get(error.errno, '')}{origin}"
        number = errno.ETIMEDOUT if error.errno == errno.EAGAIN else error.errno
        raise OSError(number, reason) from None
    return sock


def _drop_copies() -> None:
    """In a child after fork: its copies of the sockets would keep the parent's sessions alive."""
    for session in list(_sessions):
        session.inherited = True
        session._turn = threading.Lock()
        session.close()


os.register_at_fork(after_in_child=_drop_copies)
