# SPDX-License-Identifier: MIT
"""The servers of the matrix, each with what a client may expect of it, written out.

All run inside the test process, on small limits, so that splitting and full rings are cheap.
"""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from conftest import TOP, run

import shmserver
import shmserver.reference
from interop import stores

REQUEST_BYTES_MAX = 64 << 10
DEPTH_MAX = 128
LIMITS: dict[str, Any] = {
    "reactors": 1,
    "request_bytes_max": REQUEST_BYTES_MAX,
    "depth_max": DEPTH_MAX,
}

ALL = frozenset(
    {"write", "discard", "write-zeroes", "block-status", "resize", "snapshot", "manage"}
)


class Place(NamedTuple):
    """Where a server lives: its socket, and a directory for a pool."""

    socket: Path
    pool: Path


class Server(NamedTuple):
    start: Callable[[Place], AbstractContextManager[Any]]  # a started one has stop(drain_s)
    store: str  # what it says its store is called
    capabilities: frozenset[str] = ALL
    block_bytes: int = 1
    keeps: bool = True  # what is written can be read
    sees_holes: bool = True  # block-status tells what has never been written
    traits: frozenset[str] = frozenset()  # see TRAITS in pairs.py

    def can(self, capability: str) -> bool:
        return capability in self.capabilities

    def kept(self, data: bytes) -> bytes:
        """What reads back after data was written over zeroes."""
        return data if self.keeps else bytes(len(data))


def _c(store: Any, **arguments: Any) -> Callable[[Place], Any]:
    def start(place: Place) -> Any:
        made = store() if isinstance(store, type) else store
        return shmserver.Server(made, socket=place.socket, **LIMITS, **arguments)

    return start


def _c_file(place: Place) -> Any:
    return shmserver.Server("file", socket=place.socket, pool=place.pool, **LIMITS)


def _reference(store: Any) -> Callable[[Place], Any]:
    def start(place: Place) -> Any:
        made = store() if isinstance(store, type) else store
        return shmserver.reference.Server(made, socket=place.socket, **LIMITS)

    return start


def _reference_file(place: Place) -> Any:
    return shmserver.reference.Server("file", socket=place.socket, pool=place.pool, **LIMITS)


PLAIN = frozenset({"write", "manage"})
HUGE = frozenset({"huge"})
COMPLETE = HUGE | {"complete"}


_built = tempfile.TemporaryDirectory(prefix="ovsshm-cpp-")  # a store stays loaded
atexit.register(_built.cleanup)


@functools.cache
def cpp_store() -> str:
    """The C++ store of the examples as a shared object."""
    source, target = TOP / "examples/cpp_store.cpp", f"{_built.name}/dedup.so"
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", f"-I{TOP}/csrc/include"]
    run([*command, source, "-o", target], timeout=120)
    return target


def _cpp(place: Place) -> Any:
    return shmserver.Server(cpp_store(), socket=place.socket, **LIMITS)


def _serve_c(store: Any, place: Place) -> Any:
    return shmserver.Server(store, socket=place.socket, **LIMITS)


def _serve_reference(store: Any, place: Place) -> Any:
    return shmserver.reference.Server(store, socket=place.socket, **LIMITS)


# For tests that bring a store of their own: serve(store, place).
STORE_SERVERS: dict[str, Callable[[Any, Place], AbstractContextManager[Any]]] = {
    "c": _serve_c,
    "reference": _serve_reference,
}

SERVERS: dict[str, Server] = {
    "c-file": Server(_c_file, "file", traits=COMPLETE),
    "c-memory": Server(_c("memory"), "memory", traits=COMPLETE),
    "c-null": Server(_c("null"), "null", ALL - {"snapshot"}, keeps=False, traits=HUGE),
    # Passes everything on, in blocks: what has to be aligned is refused when it is not.
    "c-fault": Server(
        _c("fault", options={"block-bytes": 512}), "fault", block_bytes=512, traits=HUGE
    ),
    "cpp": Server(_cpp, "dedup", traits=frozenset({"complete"})),
    # The C server on stores in Python.
    "py-plain": Server(_c(stores.Plain), "Plain", PLAIN),
    "py-threads": Server(_c(stores.Threads), "Threads", PLAIN),
    "py-deadline": Server(_c(stores.Deadline), "Deadline", PLAIN),
    "py-async": Server(_c(stores.Async), "Async", PLAIN | {"write-zeroes"}),
    "py-batch": Server(_c(stores.Batch), "Batch", PLAIN | {"discard", "write-zeroes"}),
    "py-full": Server(_c(stores.Full), "Full", block_bytes=stores.BLOCK_BYTES),
    # The reference server, on stores of its own and on the same as the C server.
    "ref-file": Server(_reference_file, "file", traits=COMPLETE),
    "ref-memory": Server(_reference("memory"), "memory", traits=COMPLETE),
    "ref-null": Server(_reference("null"), "null", ALL - {"snapshot"}, keeps=False, traits=HUGE),
    "ref-plain": Server(_reference(stores.Plain), "Plain", PLAIN),
    "ref-async": Server(_reference(stores.Async), "Async", PLAIN | {"write-zeroes"}),
    "ref-batch": Server(_reference(stores.Batch), "Batch", PLAIN | {"discard", "write-zeroes"}),
    "ref-full": Server(_reference(stores.Full), "Full", block_bytes=stores.BLOCK_BYTES),
}
