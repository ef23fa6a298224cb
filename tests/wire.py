# SPDX-License-Identifier: MIT
"""The wire header as Python sees it: everything is read from shm_wire.h, nothing is typed again.

ffi        knows every struct between the header's cdef marks
CONSTANTS  name -> value of every #define and enumerator
STRUCTS    name -> size and fields, in order
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "csrc/include/openvstorage/shm_wire.h"


class Field(NamedTuple):
    name: str
    offset: int
    size: int


class Struct(NamedTuple):
    size: int
    fields: list[Field]


def marked_part() -> str:
    text = HEADER.read_text()
    return text[text.index("/* [cdef-begin] */") : text.index("/* [cdef-end] */")]


def _strip_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


ffi = FFI()
ffi.cdef(_strip_comments(marked_part()))
_lib = ffi.dlopen(None)

# The names cffi knows; the enumerators too are attributes of the library.
CONSTANTS: dict[str, int] = {
    name: int(getattr(_lib, name)) for name in dir(_lib) if name.startswith("OVSSHM_")
}


def _struct(name: str) -> Struct:
    ctype = ffi.typeof(f"struct {name}")
    fields = [
        Field(field, info.offset, ffi.sizeof(info.type)) for field, info in ctype.fields or []
    ]
    return Struct(ffi.sizeof(ctype), fields)


STRUCTS: dict[str, Struct] = {name: _struct(name) for name in ffi.list_types()[1]}


def __getattr__(name: str) -> int:
    """wire.OP_READ is OVSSHM_OP_READ."""
    try:
        return CONSTANTS["OVSSHM_" + name]
    except KeyError:
        raise AttributeError(name) from None


def _assign(target: Any, values: dict[str, Any]) -> None:
    for field, value in values.items():
        if isinstance(value, str):
            value = value.encode()
        setattr(target, field, value)


def pack(struct: str, **fields: Any) -> bytes:
    """The bytes of `struct ovsshm_<struct>`; unnamed members are zero, text may be str."""
    value = ffi.new(f"struct ovsshm_{struct} *")
    _assign(value, fields)
    return bytes(ffi.buffer(value))


def sizeof(struct: str) -> int:
    return STRUCTS["ovsshm_" + struct].size


def unpack(struct: str, data: bytes | memoryview) -> Any:
    """A copy of the first bytes of data as a cffi struct."""
    value = ffi.new(f"struct ovsshm_{struct} *")
    ffi.memmove(value, data, ffi.sizeof(value[0]))
    return value


def view(struct: str, buffer: Any, offset: int = 0) -> Any:
    """The struct in place: assignments change the buffer.  Release it before a mmap is closed."""
    window = ffi.from_buffer(memoryview(buffer)[offset : offset + sizeof(struct)])
    return ffi.cast(f"struct ovsshm_{struct} *", window), window


def text(field: Any) -> str:
    """A text field up to its first NUL."""
    return ffi.string(field).decode()


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
