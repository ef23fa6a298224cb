# SPDX-License-Identifier: MIT
"""The C library as C programs meet it: libovsvolumedriver.so.1 loaded by cffi, nothing in between.

Declarations are read from <openvstorage/shm.h>.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import select
from collections.abc import Sequence
from typing import Any

import wire
from cffi import FFI
from conftest import TOP

from interop import client
from interop.client import ARENA_BYTES, WAIT_S, Event, Extent, Hello, Info, Request, Snapshot

HEADER = TOP / "csrc/include/openvstorage/shm.h"
LIBRARY = TOP / "build/release/libovsvolumedriver.so.1"
ERRNO_MAX = 4095
EXTENTS_MAX = 16
EVENTS = {
    number: name.removeprefix("OVSSHM_EVENT_").lower()
    for name, number in wire.CONSTANTS.items()
    if name.startswith("OVSSHM_EVENT_")
}


def declarations(text: str) -> str:
    """What cffi can read of a header: no comments, no preprocessor, no C++."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", " ", text, flags=re.DOTALL)
    return re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


ffi = FFI()
ffi.include(wire.ffi)
ffi.cdef("struct iovec { void *iov_base; size_t iov_len; };")
ffi.cdef(declarations(HEADER.read_text()))


@functools.cache
def library() -> Any:
    assert LIBRARY.exists(), f"{LIBRARY} is not built: make lib"
    return ffi.dlopen(str(LIBRARY))


def checked(result: int) -> int:
    """A count, or the OSError of a -errno."""
    if result >= 0:
        return result
    assert result >= -ERRNO_MAX, f"{result} is no -errno"
    reason = ffi.string(library().ovsshm_reason()).decode(errors="surrogateescape")
    assert reason
    assert "\n" not in reason
    raise OSError(-result, reason)


def name_bytes(name: str) -> bytes:
    return os.fsencode(name)


def text(field: Any) -> str:
    return os.fsdecode(ffi.string(field))


def capability_names(bits: int) -> frozenset[str]:
    return frozenset(
        name.removeprefix("OVSSHM_CAP_").lower().replace("_", "-")
        for name, bit in wire.CONSTANTS.items()
        if name.startswith("OVSSHM_CAP_") and bits & bit
    )


class Connection(client.Connection):
    volume_type: type[Volume]

    def __init__(self, socket: str) -> None:
        pointer = ffi.new("struct ovsshm_conn **")
        checked(library().ovsshm_connect(os.fsencode(socket), pointer))
        self._conn = pointer[0]

    def close(self) -> None:
        library().ovsshm_disconnect(self._conn)
        self._conn = ffi.NULL

    def hello(self) -> Hello:
        hello = library().ovsshm_conn_hello(self._conn)
        return Hello(
            text(hello.store),
            capability_names(hello.capabilities),
            hello.depth_max,
            hello.request_bytes_max,
            hello.range_bytes_max,
        )

    def create(self, name: str, size_bytes: int) -> None:
        assert checked(library().ovsshm_create(self._conn, name_bytes(name), size_bytes)) == 0

    def remove(self, name: str) -> None:
        assert checked(library().ovsshm_remove(self._conn, name_bytes(name))) == 0

    def resize(self, name: str, size_bytes: int) -> None:
        assert checked(library().ovsshm_resize(self._conn, name_bytes(name), size_bytes)) == 0

    def stat(self, name: str) -> Info:
        info = ffi.new("struct ovsshm_volume_info *")
        assert checked(library().ovsshm_stat(self._conn, name_bytes(name), info)) == 0
        return _info(info)

    def list(self) -> list[Info]:
        """In pages of 3, so that a suite's worth of volumes takes several."""
        found: list[Info] = []
        infos = ffi.new("struct ovsshm_volume_info[3]")
        after = ffi.NULL
        while count := checked(library().ovsshm_list(self._conn, after, infos, 3)):
            found += [_info(infos[i]) for i in range(count)]
            after = name_bytes(found[-1].name)
        return found

    def names(self) -> list[str]:
        return [info.name for info in self.list()]

    def status(self) -> dict[str, int]:
        status = ffi.new("struct ovsshm_status *")
        assert checked(library().ovsshm_status(self._conn, status)) == 0
        return members(status)

    def sessions(self) -> list[dict[str, Any]]:
        """In pages of 2."""
        found: list[dict[str, Any]] = []
        infos = ffi.new("struct ovsshm_session_info[2]")
        after = 0
        while count := checked(library().ovsshm_sessions(self._conn, after, infos, 2)):
            found += [members(infos[i]) for i in range(count)]
            after = found[-1]["id"]
        for one in found:
            one["mode"] = {wire.MODE_READ: "read", wire.MODE_WRITE: "write"}[one["mode"]]
        return found

    def snapshot_create(self, volume: str, snapshot: str, timeout_s: int = 0) -> None:
        names = name_bytes(volume), name_bytes(snapshot)
        assert checked(library().ovsshm_snapshot_create(self._conn, *names, timeout_s)) == 0

    def snapshot_rollback(self, volume: str, snapshot: str) -> None:
        names = name_bytes(volume), name_bytes(snapshot)
        assert checked(library().ovsshm_snapshot_rollback(self._conn, *names)) == 0

    def snapshot_remove(self, volume: str, snapshot: str) -> None:
        names = name_bytes(volume), name_bytes(snapshot)
        assert checked(library().ovsshm_snapshot_remove(self._conn, *names)) == 0

    def snapshot_is_synced(self, volume: str, snapshot: str) -> bool:
        names = name_bytes(volume), name_bytes(snapshot)
        synced = checked(library().ovsshm_snapshot_is_synced(self._conn, *names))
        assert synced in (0, 1)
        return bool(synced)

    def snapshots(self, volume: str) -> list[Snapshot]:
        """In pages of 2."""
        found: list[Snapshot] = []
        infos = ffi.new("struct ovsshm_snapshot_info[2]")
        name, after = name_bytes(volume), ffi.NULL
        while count := checked(library().ovsshm_snapshot_list(self._conn, name, after, infos, 2)):
            found += [Snapshot(text(infos[i].name), infos[i].size_bytes) for i in range(count)]
            after = name_bytes(found[-1].name)
        return found

    def open(self, name: str, *, writable: bool = False, depth: int = 0) -> Volume:
        params = ffi.new(
            "struct ovsshm_open_params *",
            {
                "mode": wire.MODE_WRITE if writable else wire.MODE_READ,
                "depth": depth,
                "arena_bytes": ARENA_BYTES,
            },
        )
        pointer = ffi.new("struct ovsshm_volume **")
        assert checked(library().ovsshm_open(self._conn, name_bytes(name), params, pointer)) == 0
        return self.volume_type(pointer[0])


def members(struct: Any) -> dict[str, Any]:
    """All but the reserved ones: numbers, text, tuples of numbers."""
    kind = ffi.typeof(struct)
    found: dict[str, Any] = {}
    for field, _ in (kind.item if kind.kind == "pointer" else kind).fields:
        value = getattr(struct, field)
        if field.startswith("resv"):
            assert not any(value) if isinstance(value, ffi.CData) else value == 0
        elif not isinstance(value, ffi.CData):
            found[field] = value
        elif ffi.typeof(value).item == ffi.typeof("char"):
            found[field] = text(value)
        else:
            found[field] = tuple(value)
    return found


def _info(info: Any) -> Info:
    return Info(
        text(info.name),
        info.size_bytes,
        info.block_bytes,
        info.writers,
        info.readers,
        info.snapshots,
    )


class Volume(client.Volume):
    def __init__(self, volume: Any) -> None:
        self._volume = volume
        self._queue = library().ovsshm_volume_queue(volume, 0)

    def close(self) -> None:
        library().ovsshm_close(self._volume)
        self._volume = self._queue = ffi.NULL

    def size(self) -> int:
        return int(library().ovsshm_volume_bytes(self._volume))

    def _run(self, op: int, **fields: Any) -> int:
        io = ffi.new("struct ovsshm_io *", {"op": op, **fields})
        return checked(library().ovsshm_queue_run(self._queue, io))

    def read(self, length_bytes: int, offset_bytes: int) -> bytes:
        buffer = ffi.new("char[]", length_bytes + 1)
        count = self._run(
            wire.OP_READ, length_bytes=length_bytes, offset_bytes=offset_bytes, buffer=buffer
        )
        return bytes(ffi.buffer(buffer, count))

    def write(self, data: bytes, offset_bytes: int, *, fua: bool = False) -> int:
        return self._run(
            wire.OP_WRITE,
            flags=wire.SQE_FUA if fua else 0,
            length_bytes=len(data),
            offset_bytes=offset_bytes,
            buffer=ffi.from_buffer(data),
        )

    def _iov(self, parts: Sequence[Any]) -> dict[str, Any]:
        return {
            "iov": ffi.new("struct iovec[]", [(part, len(part)) for part in parts]),
            "iov_count": len(parts),
            "length_bytes": sum(len(part) for part in parts),
        }

    def readv(self, lengths: Sequence[int], offset_bytes: int) -> list[bytes]:
        parts = [ffi.new("char[]", length) for length in lengths]
        count = self._run(wire.OP_READ, offset_bytes=offset_bytes, **self._iov(parts))
        assert count == sum(lengths)
        return [bytes(ffi.buffer(part)) for part in parts]

    def writev(self, chunks: Sequence[bytes], offset_bytes: int) -> int:
        parts = [ffi.from_buffer(chunk) for chunk in chunks]
        return self._run(wire.OP_WRITE, offset_bytes=offset_bytes, **self._iov(parts))

    def write_shared(self, chunks: Sequence[bytes], offset_bytes: int) -> int:
        parts = []
        for chunk in chunks:
            memory = library().ovsshm_buffer_alloc(self._volume, len(chunk))
            assert memory != ffi.NULL
            assert library().ovsshm_buffer_is_shared(self._volume, memory, len(chunk))
            ffi.memmove(memory, chunk, len(chunk))
            parts.append(ffi.buffer(memory, len(chunk)))
        iov = self._iov([ffi.from_buffer(part) for part in parts])
        try:
            return self._run(wire.OP_WRITE, offset_bytes=offset_bytes, **iov)
        finally:
            for part in parts:
                library().ovsshm_buffer_free(self._volume, ffi.from_buffer(part))

    def flush(self) -> None:
        assert self._run(wire.OP_FLUSH) == 0

    def discard(self, length_bytes: int, offset_bytes: int) -> None:
        range_ = {"length_bytes": length_bytes, "offset_bytes": offset_bytes}
        assert self._run(wire.OP_DISCARD, **range_) == 0

    def write_zeroes(
        self, length_bytes: int, offset_bytes: int, *, may_unmap: bool = True, fua: bool = False
    ) -> None:
        flags = (wire.SQE_MAY_UNMAP if may_unmap else 0) | (wire.SQE_FUA if fua else 0)
        range_ = {"length_bytes": length_bytes, "offset_bytes": offset_bytes}
        assert self._run(wire.OP_WRITE_ZEROES, flags=flags, **range_) == 0

    def block_status(self, length_bytes: int, offset_bytes: int) -> list[Extent]:
        found: list[Extent] = []
        extents = ffi.new("struct ovsshm_extent[]", EXTENTS_MAX)
        while length_bytes:
            count = self._run(
                wire.OP_BLOCK_STATUS,
                length_bytes=length_bytes,
                offset_bytes=offset_bytes,
                buffer=extents,
                extents_max=EXTENTS_MAX,
            )
            if count == 0:
                break
            for extent in extents[0:count]:
                assert extent.resv == 0
                assert 0 < extent.length_bytes <= length_bytes
                hole, zero = (extent.flags & wire.EXTENT_HOLE, extent.flags & wire.EXTENT_ZERO)
                found.append(Extent(extent.length_bytes, bool(hole), bool(zero)))
                length_bytes -= extent.length_bytes
                offset_bytes += extent.length_bytes
        return client.merged(found)

    def resize(self, size_bytes: int) -> None:
        assert checked(library().ovsshm_volume_resize(self._volume, size_bytes)) == 0

    def set_writable(self, writable: bool) -> None:
        mode = wire.MODE_WRITE if writable else wire.MODE_READ
        assert checked(library().ovsshm_volume_set_mode(self._volume, mode)) == 0

    def _event(self) -> Event | None:
        event = ffi.new("struct ovsshm_msg_event *")
        if library().ovsshm_volume_event(self._volume, event) == 0:
            return None
        return Event(EVENTS[event.event], event.value)

    def pending_events(self) -> list[Event]:
        return list(iter(self._event, None))

    def next_event(self) -> Event | None:
        fd = library().ovsshm_queue_fd(self._queue)
        while not (event := self._event()):
            if library().ovsshm_volume_state(self._volume) != 0:
                return None
            armed = library().ovsshm_queue_arm(self._queue) == 0
            readable = armed and select.select([fd], [], [], WAIT_S)[0]
            library().ovsshm_queue_disarm(self._queue)
            if armed and not readable:
                return None
        return event

    # ---- many at once ----

    def _io(self, request: Request, number: int) -> tuple[Any, Any]:
        """The request, and what has to live as long."""
        fields: dict[str, Any] = {"user_data": number}
        buffer = None
        match request:
            case client.Read(length, offset):
                buffer = ffi.new("char[]", length)
                fields |= {"op": wire.OP_READ, "length_bytes": length, "offset_bytes": offset}
            case client.Write(data, offset, fua):
                buffer = ffi.from_buffer(data)
                flags = wire.SQE_FUA if fua else 0
                fields |= {"op": wire.OP_WRITE, "flags": flags}
                fields |= {"length_bytes": len(data), "offset_bytes": offset}
            case client.Flush():
                fields |= {"op": wire.OP_FLUSH}
            case client.Discard(length, offset):
                fields |= {"op": wire.OP_DISCARD, "length_bytes": length, "offset_bytes": offset}
            case client.WriteZeroes(length, offset):
                fields |= {"op": wire.OP_WRITE_ZEROES, "flags": wire.SQE_MAY_UNMAP}
                fields |= {"length_bytes": length, "offset_bytes": offset}
        if buffer is not None:
            fields["buffer"] = buffer
        return ffi.new("struct ovsshm_io *", fields), buffer

    def batch(self, requests: Sequence[Request]) -> list[bytes | int]:
        ios = [self._io(request, number) for number, request in enumerate(requests)]
        results: dict[int, int] = {}
        for number, (io, _) in enumerate(ios):
            while (rc := library().ovsshm_queue_prep(self._queue, io)) == -errno.EAGAIN:
                self._reap(results)
            if rc < 0:
                results[number] = rc
        while library().ovsshm_queue_in_flight(self._queue):
            self._reap(results)
        found: list[bytes | int] = []
        for number, request in enumerate(requests):
            result, buffer = results[number], ios[number][1]
            is_data = isinstance(request, client.Read) and result >= 0
            found.append(bytes(ffi.buffer(buffer, result)) if is_data else result)
        return found

    def _reap(self, results: dict[int, int]) -> None:
        completions = ffi.new("struct ovsshm_completion[16]")
        library().ovsshm_queue_submit(self._queue)
        count = library().ovsshm_queue_wait(self._queue, completions, 16, int(WAIT_S * 1e9))
        assert count > 0, f"no completion in {WAIT_S} s"
        for completion in completions[0:count]:
            assert completion.user_data not in results, "completed twice"
            results[completion.user_data] = completion.result


Connection.volume_type = Volume
