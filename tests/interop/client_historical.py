# SPDX-License-Identifier: MIT
"""The historical API of libovsvolumedriver.so.1, as old programs call it, through cffi.

It finds its server by the environment, which is set around each call that may connect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cffi import FFI
from conftest import TOP

from interop import client
from interop.client import Request, Snapshot
from interop.client_c import LIBRARY, declarations, name_bytes, text

HEADER = TOP / "csrc/include/openvstorage/volumedriver.h"

ffi = FFI()
# What the header takes from the system.  st_size is where Linux has it on 64 bits.
ffi.cdef("""
    typedef int64_t off_t;
    struct timespec;
    struct stat { char before[48]; int64_t st_size; char after[200]; };
""")
ffi.cdef(declarations(HEADER.read_text()))
lib: Any = ffi.dlopen(str(LIBRARY))


def checked(result: int) -> int:
    """A count; -1 is the OSError of errno."""
    if result >= 0:
        return result
    assert result == -1
    assert ffi.errno > 0
    raise OSError(ffi.errno, os.strerror(ffi.errno))


def created(pointer: Any) -> Any:
    if pointer == ffi.NULL:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return pointer


@contextmanager
def environment(socket: str) -> Iterator[None]:
    before = os.environ.get("OVS_SHM_SOCKET")
    os.environ["OVS_SHM_SOCKET"] = socket
    try:
        yield
    finally:
        if before is None:
            del os.environ["OVS_SHM_SOCKET"]
        else:
            os.environ["OVS_SHM_SOCKET"] = before


def context() -> Any:
    attr = created(lib.ovs_ctx_attr_new())
    try:
        checked(lib.ovs_ctx_attr_set_transport(attr, b"shm", ffi.NULL, 0))
        return created(lib.ovs_ctx_new(attr))
    finally:
        checked(lib.ovs_ctx_attr_destroy(attr))


class Connection(client.Connection):
    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._ctx = context()

    def close(self) -> None:
        if self._ctx != ffi.NULL:
            checked(lib.ovs_ctx_destroy(self._ctx))
        self._ctx = ffi.NULL

    def _manage(self, call: Any, *arguments: Any) -> int:
        with environment(self._socket):
            return checked(call(self._ctx, *arguments))

    def create(self, name: str, size_bytes: int) -> None:
        assert self._manage(lib.ovs_create_volume, name_bytes(name), size_bytes) == 0

    def remove(self, name: str) -> None:
        assert self._manage(lib.ovs_remove_volume, name_bytes(name)) == 0

    def resize(self, name: str, size_bytes: int) -> None:
        assert self._manage(lib.ovs_truncate_volume, name_bytes(name), size_bytes) == 0

    def names(self) -> list[str]:
        size = ffi.new("size_t *", 1 << 20)
        names = ffi.new("char[]", size[0])
        count = self._manage(lib.ovs_list_volumes, names, size)
        return [os.fsdecode(name) for name in bytes(ffi.buffer(names, count)).split(b"\0")[:-1]]

    def snapshot_create(self, volume: str, snapshot: str, timeout_s: int = 0) -> None:
        names = name_bytes(volume), name_bytes(snapshot)
        assert self._manage(lib.ovs_snapshot_create, *names, timeout_s) == 0

    def snapshot_rollback(self, volume: str, snapshot: str) -> None:
        names = name_bytes(volume), name_bytes(snapshot)
        assert self._manage(lib.ovs_snapshot_rollback, *names) == 0

    def snapshot_remove(self, volume: str, snapshot: str) -> None:
        names = name_bytes(volume), name_bytes(snapshot)
        assert self._manage(lib.ovs_snapshot_remove, *names) == 0

    def snapshot_is_synced(self, volume: str, snapshot: str) -> bool:
        names = name_bytes(volume), name_bytes(snapshot)
        return self._manage(lib.ovs_snapshot_is_synced, *names) == 1

    def snapshots(self, volume: str) -> list[Snapshot]:
        room = ffi.new("int *", 64)
        infos = ffi.new("ovs_snapshot_info_t[]", room[0])
        count = self._manage(lib.ovs_snapshot_list, name_bytes(volume), infos, room)
        found = [Snapshot(text(info.name), info.size) for info in infos[0:count]]
        lib.ovs_snapshot_list_free(infos)
        return found

    def open(self, name: str, *, writable: bool = False, depth: int = 0) -> Volume:
        assert depth == 0, "not a thing of this API"
        ctx = context()
        try:
            with environment(self._socket):
                flags = os.O_RDWR if writable else os.O_RDONLY
                assert checked(lib.ovs_ctx_init(ctx, name_bytes(name), flags)) == 0
        except BaseException:
            checked(lib.ovs_ctx_destroy(ctx))
            raise
        return Volume(ctx)


class Volume(client.Volume):
    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def close(self) -> None:
        if self._ctx != ffi.NULL:
            checked(lib.ovs_ctx_destroy(self._ctx))
        self._ctx = ffi.NULL

    def size(self) -> int:
        stat = ffi.new("struct stat *")
        assert checked(lib.ovs_stat(self._ctx, stat)) == 0
        return int(stat.st_size)

    def read(self, length_bytes: int, offset_bytes: int) -> bytes:
        buffer = ffi.new("char[]", length_bytes + 1)
        count = checked(lib.ovs_read(self._ctx, buffer, length_bytes, offset_bytes))
        return bytes(ffi.buffer(buffer, count))

    def write(self, data: bytes, offset_bytes: int, *, fua: bool = False) -> int:
        assert not fua, "not a thing of this API"
        return checked(lib.ovs_write(self._ctx, data, len(data), offset_bytes))

    def flush(self) -> None:
        assert checked(lib.ovs_flush(self._ctx)) == 0

    def resize(self, size_bytes: int) -> None:
        assert checked(lib.ovs_truncate(self._ctx, size_bytes)) == 0

    # ---- many at once ----

    def _start(self, request: Request) -> tuple[Any, Any]:
        """Submitted: its aiocb and memory, or the completion of a flush and None."""
        match request:
            case client.Read(length, offset):
                buffer, call = ffi.new("char[]", length), lib.ovs_aio_read
            case client.Write(data, offset, _):
                buffer, length, call = ffi.from_buffer(data), len(data), lib.ovs_aio_write
            case client.Flush():
                # The callback's one act; that it takes a second argument does it no harm.
                signal = ffi.cast("ovs_callback_t", ffi.addressof(lib, "ovs_aio_signal_completion"))
                completion = created(lib.ovs_aio_create_completion(signal, ffi.NULL))
                checked(lib.ovs_aio_flushcb(self._ctx, completion))
                return completion, None
            case _:
                raise AssertionError(f"{request} is not a thing of this API")
        block = ffi.new("struct ovs_aiocb *", (buffer, offset, length))
        checked(call(self._ctx, block))
        return block, buffer

    def _finish(self, request: Request, started: tuple[Any, Any]) -> bytes | int:
        handle, buffer = started
        if buffer is None:
            checked(lib.ovs_aio_wait_completion(handle, ffi.NULL))
            result = lib.ovs_aio_return_completion(handle)
            failed = ffi.errno
            checked(lib.ovs_aio_release_completion(handle))
        else:
            checked(lib.ovs_aio_suspend(self._ctx, handle, ffi.NULL))
            number = lib.ovs_aio_error(self._ctx, handle)
            result = lib.ovs_aio_return(self._ctx, handle)
            failed = ffi.errno
            assert number == (failed if result < 0 else 0)
            checked(lib.ovs_aio_finish(self._ctx, handle))
        if result < 0:
            return -int(failed)
        is_data = isinstance(request, client.Read)
        return bytes(ffi.buffer(buffer, result)) if is_data else int(result)

    def batch(self, requests: Sequence[Request]) -> list[bytes | int]:
        started = [self._start(request) for request in requests]
        return [self._finish(request, one) for request, one in zip(requests, started, strict=True)]
