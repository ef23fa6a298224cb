# SPDX-License-Identifier: MIT
"""The connection: management calls, one message each (sections 4.2 to 4.4)."""

from __future__ import annotations

import builtins
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any, Self

from shmclient.reference import names, tables, wire
from shmclient.reference.arguments import count
from shmclient.reference.records import (
    Hello,
    SessionInfo,
    SnapshotInfo,
    Status,
    VolumeInfo,
    record,
)
from shmclient.reference.session import Session
from shmclient.reference.volume import Volume, resize, volume_info

SOCKET_OF_ROOT = "/run/openvstorage/shm.sock"


def default_socket() -> tuple[str, str]:
    """Where a client looks when no socket is given, and how that was found, for messages."""
    if given := os.environ.get("OVS_SHM_SOCKET"):
        return given, " (socket from $OVS_SHM_SOCKET)"
    origin = " (the default socket; $OVS_SHM_SOCKET names another)"
    if os.geteuid() == 0:
        return SOCKET_OF_ROOT, origin
    if directory := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{directory}/openvstorage/shm.sock", origin
    raise FileNotFoundError(
        errno.ENOENT, "no default socket: neither $OVS_SHM_SOCKET nor $XDG_RUNTIME_DIR is set"
    )


class Connection:
    """A connection to a server, for management.  Its calls may come from any thread."""

    def __init__(self, socket: str | PathLike[str] | None = None) -> None:
        path, origin = default_socket() if socket is None else (fspath(socket), "")
        self._session = Session(path, origin)
        self._closed = False
        self._count_lock = threading.Lock()
        self._calls = 0  # under way

    def close(self) -> None:
        """Close it; a call that is under way ends by itself.  Again is fine."""
        with self._count_lock:
            self._closed = True
            idle = self._calls == 0
        if idle:
            self._session.close()

    @property
    def closed(self) -> bool:
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        self._session.check_process()
        if self._closed:
            raise ValueError("the connection is closed")

    @contextmanager
    def _under_way(self) -> Iterator[Session]:
        """The session, kept for the length of a call; the last one after close() ends it."""
        with self._count_lock:
            self._check_open()
            self._calls += 1
        try:
            yield self._session
        finally:
            with self._count_lock:
                self._calls -= 1
                last = self._closed and self._calls == 0
            if last:
                self._session.close()

    def _call(self, name: str, payload: bytes = b"") -> bytes:
        with self._under_way() as session:
            return session.call(name, payload).payload

    # ---- the server ----

    @property
    def hello(self) -> Hello:
        self._check_open()
        hello: Hello = record(Hello, self._session.hello)
        return hello

    def status(self) -> Status:
        status: Status = record(Status, wire.unpack("status", self._call("STATUS")))
        return status

    def sessions(self) -> builtins.list[SessionInfo]:
        """Who has which volume open, and what each has done since (section 4.7), in order of id."""
        self._check_open()
        if not self._session.hello.features & wire.FEATURE_SESSIONS:
            raise OSError(errno.EOPNOTSUPP, "the server does not tell about its sessions")

        def after(last: SessionInfo | None) -> bytes:
            return wire.pack("msg_sessions", after=last.id if last else 0)

        return self._pages("SESSIONS", SessionInfo, after)

    # ---- volumes ----

    def create(self, name: str, size_bytes: int) -> None:
        """Create a volume that reads as zeroes; sizes are multiples of 512."""
        names.check_volume(_checked(name))
        names.check_size(name, count(size_bytes, "size_bytes"))
        self._call("CREATE", wire.pack("msg_volume", name=name, size_bytes=size_bytes))

    def remove(self, name: str) -> None:
        names.check_volume(_checked(name))
        self._call("REMOVE", wire.pack("msg_volume", name=name))

    def resize(self, name: str, size_bytes: int) -> None:
        """Grow a volume."""
        with self._under_way() as session:
            resize(session, _checked(name), size_bytes)

    def stat(self, name: str) -> VolumeInfo:
        names.check_volume(_checked(name))
        payload = self._call("STAT", wire.pack("msg_volume", name=name))
        return volume_info(self._session, payload)

    def list(self) -> builtins.list[VolumeInfo]:
        """All volumes in order of name."""

        def after(last: VolumeInfo | None) -> bytes:
            return wire.pack("msg_volume", name=last.name if last else "")

        return self._pages("LIST", VolumeInfo, after)

    # ---- snapshots ----

    def snapshot_create(self, volume: str, snapshot: str, *, timeout_s: int = 0) -> None:
        """Wait timeout_s for it to be safe, else TimeoutError; 0: for ever, below 0: not.

        OverflowError: timeout_s is beyond 64 bits.
        """
        self._snapshot_call("SNAPSHOT_CREATE", volume, snapshot, timeout_s)

    def snapshot_rollback(self, volume: str, snapshot: str) -> None:
        """Put the contents back; newer snapshots are dropped."""
        self._snapshot_call("SNAPSHOT_ROLLBACK", volume, snapshot)

    def snapshot_remove(self, volume: str, snapshot: str) -> None:
        self._snapshot_call("SNAPSHOT_REMOVE", volume, snapshot)

    def snapshot_is_synced(self, volume: str, snapshot: str) -> bool:
        """Is it safe in the store?"""
        payload = self._snapshot_call("SNAPSHOT_IS_SYNCED", volume, snapshot)
        return bool(wire.unpack("msg_synced_reply", payload).synced)

    def snapshot_list(self, volume: str) -> builtins.list[SnapshotInfo]:
        """Oldest first."""
        names.check_volume(_checked(volume))

        def after(last: SnapshotInfo | None) -> bytes:
            return wire.pack("msg_snapshot", volume=volume, snapshot=last.name if last else "")

        return self._pages("SNAPSHOT_LIST", SnapshotInfo, after)

    def _snapshot_call(self, name: str, volume: str, snapshot: str, timeout_s: int = 0) -> bytes:
        names.check_volume(_checked(volume))
        names.check_snapshot(_checked(snapshot))
        payload = wire.pack("msg_snapshot", volume=volume, snapshot=snapshot, timeout_s=timeout_s)
        return self._call(name, payload)

    def _pages(
        self, name: str, kind: type[Any], payload: Callable[[Any], bytes]
    ) -> builtins.list[Any]:
        """The whole of a list that comes in messages; payload: after the last element seen."""
        found: builtins.list[Any] = []
        more = True
        with self._under_way() as session:
            while more:
                last = found[-1] if found else None
                structs, more = self._page(name, session.call(name, payload(last)).payload)
                found += [record(kind, one) for one in structs]
        return found

    def _page(self, name: str, reply: bytes) -> tuple[builtins.list[Any], bool]:
        element = tables.MESSAGES[name].element
        assert element is not None
        step = wire.sizeof(element)
        head = wire.unpack("msg_list_reply", reply)
        data = reply[wire.sizeof("msg_list_reply") :]
        if head.count * step != len(data) or head.more > 1 or (head.more and not head.count):
            raise self._session.violated("a list that does not add up")
        structs = [wire.unpack(element, data[at : at + step]) for at in range(0, len(data), step)]
        if not all(_texts_end(one) for one in structs):
            raise self._session.violated("a list with a bad name")
        return structs, bool(head.more)

    # ---- a volume to work on ----

    def open(
        self, name: str, *, writable: bool = False, depth: int = 0, arena_bytes: int = 0
    ) -> Volume:
        """Open a volume on a session of its own; this connection may be closed afterwards.

        One client at a time may have it writable, else EBUSY.  depth and arena_bytes: requests in
        flight and shared memory, 0 for the defaults.
        """
        self._check_open()
        names.check_volume(_checked(name))
        return Volume(
            self._session.path,
            name,
            writable=writable,
            depth=count(depth, "depth"),
            arena_bytes=count(arena_bytes, "arena_bytes"),
        )


def _checked(name: str) -> str:
    if "\0" in name:
        raise ValueError("embedded null character")
    return name


def _texts_end(struct: Any) -> bool:
    """A list goes on after its last name, so it needs one that ends, and is one."""
    name = struct.volume if hasattr(struct, "volume") else struct.name
    return wire.has_nul(name) and bool(wire.text(name))
