# SPDX-License-Identifier: MIT
"""The wire header as the reference implementation reads it, and messages with anything wrong."""

from __future__ import annotations

from pathlib import Path

from shmclient.reference import wire as _wire
from shmclient.reference.wire import (
    CONSTANTS,
    HEADER,
    STRUCTS,
    Field,
    Struct,
    ffi,
    marked_part,
    pack,
    sizeof,
    text,
    unpack,
)

__all__ = [
    "CONSTANTS",
    "HEADER",
    "STRUCTS",
    "Field",
    "Struct",
    "ffi",
    "marked_part",
    "message",
    "pack",
    "sizeof",
    "text",
    "unpack",
]

ROOT = Path(__file__).resolve().parent.parent


def __getattr__(name: str) -> int:
    """wire.OP_READ is OVSSHM_OP_READ."""
    return _wire.__getattr__(name)


def message(
    kind: int,
    payload: bytes = b"",
    *,
    ident: int = 1,
    flags: int = 0,
    status: int = 0,
    magic: int | None = None,
    payload_bytes: int | None = None,
    resv: list[int] | None = None,
) -> bytes:
    """A whole control message; every header field can be made wrong."""
    head = pack(
        "msg",
        magic=CONSTANTS["OVSSHM_MAGIC"] if magic is None else magic,
        type=kind,
        flags=flags,
        id=ident,
        status=status,
        payload_bytes=len(payload) if payload_bytes is None else payload_bytes,
        resv=resv or [0, 0, 0],
    )
    return head + payload
