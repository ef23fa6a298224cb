# SPDX-License-Identifier: MIT
"""What the calls of the client return: the structs of the wire as named tuples."""

from __future__ import annotations

from typing import Any, NamedTuple

from shmclient.reference import tables, wire


class VolumeInfo(NamedTuple):
    name: str
    size_bytes: int
    allocated_bytes: int
    block_bytes: int
    writers: int
    readers: int
    snapshots: int


class SnapshotInfo(NamedTuple):
    name: str
    size_bytes: int
    allocated_bytes: int
    created_ns: int


class Hello(NamedTuple):
    server: str
    store: str
    version: int
    capabilities: tuple[str, ...]
    queues_max: int
    depth_max: int
    request_bytes_max: int
    range_bytes_max: int
    segments_max: int
    arena_bytes_max: int


class Status(NamedTuple):
    pid: int
    uptime_ns: int
    connections: int
    sessions: int
    reactors: int
    requests: int
    errors: int
    read_bytes: int
    written_bytes: int
    doorbells: int
    sleeps: int
    violations: int


class SessionInfo(NamedTuple):
    id: int
    client: str
    pid: int
    uid: int
    volume: str
    mode: str  # "read", "write"
    queues: int
    in_flight: int
    uptime_ns: int
    reads: int
    writes: int
    others: int
    errors: int
    read_bytes: int
    written_bytes: int
    latency_ns: int
    latency_counts: tuple[int, ...]
    doorbells: int


class Limits(NamedTuple):
    block_bytes: int
    request_bytes_max: int
    range_bytes_max: int
    depth: int
    queues: int
    arena_bytes: int
    capabilities: tuple[str, ...]


class Extent(NamedTuple):
    offset_bytes: int
    length_bytes: int
    hole: bool
    zero: bool


class Event(NamedTuple):
    kind: str  # "resized", "draining", "ended"
    value: int  # resized: the size in bytes; ended: -errno
    reason: str


def capability_names(bits: int) -> tuple[str, ...]:
    """ "write", "write-zeroes", ... in order of their bits."""
    known = {
        value: name.removeprefix("OVSSHM_CAP_").lower().replace("_", "-")
        for name, value in wire.CONSTANTS.items()
        if name.startswith("OVSSHM_CAP_")
    }
    return tuple(known[bit] for bit in sorted(known) if bits & bit)


def _mode_name(mode: int) -> str:
    names = {value: name.lower() for name, value in tables.MODES.items()}
    return names.get(mode, str(mode))


_CONVERSIONS: dict[str, Any] = {
    "capabilities": capability_names,
    "latency_counts": tuple,
    "mode": _mode_name,
}


def record(kind: type[Any], struct: Any) -> Any:
    """A named tuple of the struct's members of the same names."""
    values = {}
    for field in kind._fields:
        value = getattr(struct, field)
        default = wire.text if isinstance(value, wire.ffi.CData) else None
        convert = _CONVERSIONS.get(field, default)
        values[field] = convert(value) if convert else value
    return kind(**values)
